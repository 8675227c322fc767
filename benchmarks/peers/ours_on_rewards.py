"""Burnish as a contender: the stage `reward` of a recipe, assembled and run by the loop that `burnish reward` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.recipe.assemble import assemble
from burnish.recipe.conditions import repeatable
from burnish.recipe.inputs import Inputs, Opener
from burnish.recipe.read import stage_recipe
from burnish.runs import RunFolder, StageFolder, StopSignal
from burnish.watch import Listeners, open_progress
from peers.cases import Case, Contender
from peers.meter import Meter
from peers.reward_cases import LEARNING_RATE


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the meter's figures, and the mean reward by step."""
    origins = stage_recipe("reward", _settings(case, contender, model, rows), output=str(output))
    inputs, meter, rewards = Inputs.of(Opener.of(origins.recipe)), Meter(), list[float]()

    def written(lines: Sequence[dict[str, Any]]) -> None:
        """A step's line comes when it has ended: `log_every` is 1."""
        for line in (each for each in lines if "train/loss" in each):
            meter.losses.append(float(line["train/loss"]))
            rewards.append((float(line["train/reward_chosen"]) + float(line["train/reward_rejected"])) / 2)
        meter.step()

    with (
        repeatable(0, only_deterministic=True),
        inputs.feed,
        RunFolder.open(output, origins.text({}), origins.identity()) as folder,
        open_progress(output / "log.txt") as progress,
        StopSignal() as stop,
    ):
        stage = assemble(origins.recipe, inputs, "reward")
        meter.loaded(stage.trainer.policy.model)
        stage.run(StageFolder(folder, folder.path), Listeners(folder.path, written, progress), stop)
    return {**meter.figures(), "chosen": rewards}


def _settings(case: Case, contender: Contender, model: Path, rows: Path) -> dict[str, Any]:
    return {
        "model": str(model),
        "data": str(rows),
        "sequences_per_step": case.rows_per_step,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
        "warmup": 0.0,
        "log_every": 1,
        "checkpoint_every": 1_000_000,
        **contender.settings,
    }
