"""Burnish as a contender: the stage `rl` of a recipe, assembled and run by the loop that `burnish rl` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch

from burnish import step
from burnish.recipe import trying
from burnish.recipe.assemble import assemble
from burnish.recipe.conditions import repeatable
from burnish.recipe.inputs import Opener
from burnish.recipe.practice import Practice
from burnish.recipe.read import stage_recipe
from burnish.runs import RunFolder, StageFolder, StopSignal
from burnish.sampling import LocalSampler
from burnish.tasks import Judge
from burnish.watch import Listeners, open_progress
from peers import rl_reward
from peers.cases import Case, Contender
from peers.meter import Meter
from peers.rl_cases import LEARNING_RATE, RESPONSES, WRITTEN
from peers.split import Split


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the prompts; returns the meter's figures, seconds of each part, and the memory of the processes
    that judge."""
    origins = stage_recipe("rl", _settings(case, contender, model, rows), output=str(output))
    practice, meter, split, beside = Practice.of(Opener.of(origins.recipe)), Meter(), Split(), list[int]()

    def written(lines: Sequence[dict[str, Any]]) -> None:
        """A step's line comes when it has ended: `log_every` is 1."""
        meter.losses += [float(line["train/loss"]) for line in lines if "train/loss" in line]
        split.step()
        beside.append(sum(child.memory_info().rss for child in psutil.Process().children(recursive=True)))
        meter.step()

    parts = (
        (LocalSampler, "sample", "sampling"),
        (Judge, "__call__", "reward"),
        (step, "evaluate_loss", "scoring"),
        (torch.Tensor, "backward", "backward"),
    )
    with (
        repeatable(0, only_deterministic=True),
        practice.beside,
        RunFolder.open(output, origins.text({}), origins.identity()) as folder,
        open_progress(output / "log.txt") as progress,
        StopSignal() as stop,
        mock.patch.object(trying, "ends_of_answers", return_value=()),  # nothing ends an answer early
        split.timing(*parts),
    ):
        stage = assemble(origins.recipe, practice, "rl")
        meter.loaded(stage.trainer.policy.model)
        with practice.at_work(folder.path):
            stage.run(StageFolder(folder, folder.path), Listeners(folder.path, written, progress), stop)
    return {**meter.figures(), "parts": split.steps, "beside": max(beside)}


def _settings(case: Case, contender: Contender, model: Path, rows: Path) -> dict[str, Any]:
    return {
        "model": str(model),
        "data": str(rows),
        "reward": f"{rl_reward.__file__}:vowels",
        "algorithm": "grpo",
        "responses": RESPONSES,
        "groups_per_step": case.rows_per_step,
        "max_new_tokens": WRITTEN,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
        "warmup": 0.0,
        "log_every": 1,
        "checkpoint_every": 1_000_000,
        **contender.settings,
    }
