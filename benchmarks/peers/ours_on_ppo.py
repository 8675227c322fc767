"""Burnish as a contender: the stage `ppo` of a recipe, assembled and run as by `burnish ppo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from torch import nn

from burnish.grading.reward_runner import RewardRunner
from burnish.recipe.read import stage_recipe
from burnish.rewards.response_view import ResponseView
from burnish.roles.filler import StreamFiller
from burnish.sampling.local import LocalSampler
from burnish.stages.on_policy import build
from burnish.train.step import Trainer
from peers.cases import Case, Contender
from peers.meter import Meter
from peers.ppo_cases import CLIP, EPOCHS, KL_COEF, LAMBDA, LEARNING_RATE, WRITTEN, Shape
from peers.split import Split
from peers.stage import ALIKE, Lines, assembled, opened_data, stage_runner, trained

PARTS = (
    (LocalSampler, "sample", "sampling"),
    (RewardRunner, "__call__", "scoring"),
    (StreamFiller, "__call__", "scoring"),
    (Trainer, "step", "updates"),
)


def train(case: Case, contender: Contender, models: Path, rows: Path, output: Path, batches: int) -> dict[str, Any]:
    """A number of batches; returns the measurements, and seconds of each part."""
    shape = Shape.in_settings(contender.settings)
    updates = EPOCHS * shape.minibatches
    settings = _settings(case, shape, models, rows) | {"max_steps": batches * updates}
    origins = stage_recipe("ppo", settings, output=str(output))
    inputs, meter, split, done = opened_data(origins), Meter(), Split(), list[float]()

    def on_lines(lines: Lines) -> None:
        done.extend(float(line["train/loss"]) for line in trained(lines))
        if len(done) == updates:
            done.clear()
            split.step()
            meter.step()

    with (
        stage_runner(origins, inputs.background, output, on_lines) as run,
        mock.patch.object(build, "stop_tokens_of", return_value=()),  # no token ends a response early
        inputs.at_work(output),
    ):
        stage = assembled(inputs)
        inputs.judge([[ResponseView("A", "B")]])  # loads the reward model
        with split.timing(*PARTS):
            meter.loaded(nn.ModuleList(learner.model.causal_lm for learner in stage.learners))
            run(stage)
    return {**meter.figures(), "parts": split.steps, "beside": 0}


def _settings(case: Case, shape: Shape, models: Path, rows: Path) -> dict[str, Any]:
    unclipped = {"optimizer": {"max_grad_norm": None}}
    rate = {"learning_rate": LEARNING_RATE, **unclipped}
    return {
        **ALIKE,
        **rate,
        "model": str(models / "policy"),
        "data": str(rows),
        "reward": {"name": "reward_model", "model": str(models / "reward")},
        "responses_per_prompt": shape.responses,
        "groups_per_step": case.rows_per_step // shape.responses // shape.minibatches,
        "minibatches_per_epoch": shape.minibatches,
        "epochs_per_batch": EPOCHS,
        "max_new_tokens": WRITTEN,
        "kl_coef": KL_COEF,
        "gae": {"gae_lambda": LAMBDA, "critic_lambda": LAMBDA},
        "critic": {"model": str(models / "value"), "value_clip": CLIP, "schedule": ALIKE["schedule"], **rate},
    }
