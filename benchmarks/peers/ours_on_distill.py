"""Burnish as a contender: the stage `distill` of a recipe, assembled and run as by `burnish distill`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from burnish.model.policy import Model
from burnish.recipe.read import stage_recipe
from burnish.sampling.local import LocalSampler
from burnish.stages import kind
from burnish.stages.context import StageContext
from burnish.stages.models import load_models
from burnish.stages.on_policy import build
from burnish.stages.role import Role
from burnish.teachers.local import LocalTeacher
from burnish.train import step
from peers.cases import Case, Contender
from peers.distill_cases import LEARNING_RATE, RESPONSES, WRITTEN
from peers.meter import Meter
from peers.split import Split
from peers.stage import ALIKE, Lines, assembled, opened_data, stage_runner, trained

PARTS = (
    (LocalSampler, "sample", "sampling"),
    (LocalTeacher, "streams", "teacher"),
    (step, "evaluate_loss", "student"),
    (torch.Tensor, "backward", "backward"),
)


def burnish_turn(
    case: Case, contender: Contender, student: Path, teacher: Path, rows: Path, output: Path
) -> dict[str, Any]:
    """One epoch over the prompts; returns the measurements, and seconds of each part."""
    settings = _settings(case, contender, student, teacher, rows)
    origins = stage_recipe("distill", settings, output=str(output))
    inputs, meter, split = opened_data(origins), Meter(), Split()

    def on_lines(lines: Lines) -> None:
        meter.losses += [float(line["train/loss"]) for line in trained(lines)]
        split.step()
        meter.step()

    models: dict[str, Model] = {}

    def load(context: StageContext[Any], roles: Sequence[Role]) -> dict[str, Model]:
        models.update(load_models(context, roles))
        return models

    with (
        stage_runner(origins, inputs.background, output, on_lines) as run,
        mock.patch.object(build, "stop_tokens_of", return_value=()),  # no token ends a response early
        mock.patch.object(kind, "load_models", load),
        split.timing(*PARTS),
    ):
        stage = assembled(inputs)
        meter.loaded(nn.ModuleList([model.model for model in models.values()]))
        with inputs.at_work(output):
            run(stage)
    return {**meter.figures(), "parts": split.steps, "beside": 0}


def _settings(case: Case, contender: Contender, student: Path, teacher: Path, rows: Path) -> dict[str, Any]:
    own = dict(contender.settings)
    return {
        **ALIKE,
        "model": str(student),
        "teacher": str(teacher),
        "data": str(rows),
        "loss": "full",
        **_divergence(own.pop("beta")),
        "responses_per_prompt": RESPONSES,
        "groups_per_step": case.rows_per_step,
        "max_new_tokens": WRITTEN,
        "sampling": {"temperature": 1.0},
        "learning_rate": LEARNING_RATE,
        **own,
    }


def _divergence(beta: float) -> dict[str, Any]:
    """Burnish's settings for TRL's beta."""
    ends = {0.0: "forward_kl", 1.0: "reverse_kl"}
    return {"divergence": ends[beta]} if beta in ends else {"divergence": "jsd", "jsd_beta": beta}
