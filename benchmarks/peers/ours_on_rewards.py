"""Burnish as a contender: the stage `reward` of a recipe, assembled and run as by `burnish reward`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.recipe.read import stage_recipe
from peers.cases import Case, Contender
from peers.meter import Meter
from peers.reward_cases import LEARNING_RATE
from peers.stage import ALIKE, Lines, assembled, opened_data, stage_runner, trained


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the measurements, and the mean reward by step."""
    settings = {
        **ALIKE,
        "model": str(model),
        "data": str(rows),
        "sequences_per_step": case.rows_per_step,
        "learning_rate": LEARNING_RATE,
        **contender.settings,
    }
    origins = stage_recipe("reward", settings, output=str(output))
    inputs, meter, rewards = opened_data(origins), Meter(), list[float]()

    def on_lines(lines: Lines) -> None:
        for line in trained(lines):
            meter.losses.append(float(line["train/loss"]))
            rewards.append((float(line["train/reward_chosen"]) + float(line["train/reward_rejected"])) / 2)
        meter.step()

    with stage_runner(origins, inputs.feed, output, on_lines) as run:
        stage = assembled(inputs)
        meter.loaded(stage.policy.model.model)
        run(stage)
    return {**meter.figures(), "chosen": rewards}
