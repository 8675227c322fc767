"""Burnish as a contender: the stage `rl` of a recipe, assembled and run as by `burnish rl`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch

from burnish.grading.reward_runner import RewardRunner
from burnish.recipe.read import stage_recipe
from burnish.sampling.local import LocalSampler
from burnish.stages.on_policy import build
from burnish.train import step
from peers import rl_reward
from peers.cases import Case, Contender
from peers.meter import Meter
from peers.rl_cases import LEARNING_RATE, RESPONSES, WRITTEN
from peers.split import Split
from peers.stage import ALIKE, Lines, assembled, opened_data, stage_runner, trained

PARTS = (
    (LocalSampler, "sample", "sampling"),
    (RewardRunner, "__call__", "reward"),
    (step, "evaluate_loss", "scoring"),
    (torch.Tensor, "backward", "backward"),
)


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the prompts; returns the measurements, seconds of each part, and the memory of the reward
    workers."""
    origins = stage_recipe("rl", _settings(case, contender, model, rows), output=str(output))
    rl_data, meter, split, worker_bytes = opened_data(origins), Meter(), Split(), list[int]()

    def on_lines(lines: Lines) -> None:
        meter.losses += [float(line["train/loss"]) for line in trained(lines)]
        split.step()
        worker_bytes.append(sum(child.memory_info().rss for child in psutil.Process().children(recursive=True)))
        meter.step()

    with (
        stage_runner(origins, rl_data.background, output, on_lines) as run,
        mock.patch.object(build, "stop_tokens_of", return_value=()),  # no token ends a response early
        split.timing(*PARTS),
    ):
        stage = assembled(rl_data)
        meter.loaded(stage.policy.model.model)
        with rl_data.at_work(output):
            run(stage)
    return {**meter.figures(), "parts": split.steps, "beside": max(worker_bytes)}


def _settings(case: Case, contender: Contender, model: Path, rows: Path) -> dict[str, Any]:
    return {
        **ALIKE,
        "model": str(model),
        "data": str(rows),
        "reward": f"{rl_reward.__file__}:vowels",
        "algorithm": "grpo",
        "responses_per_prompt": RESPONSES,
        "groups_per_step": case.rows_per_step,
        "max_new_tokens": WRITTEN,
        "learning_rate": LEARNING_RATE,
        **contender.settings,
    }
