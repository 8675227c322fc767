"""Burnish as a contender: the stage `prefer` of a recipe, assembled and run as by `burnish prefer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from burnish.model.policy import Model
from burnish.recipe.read import stage_recipe
from burnish.stages import kind
from burnish.stages.models import load_models
from peers.cases import Case, Contender, PairLoss
from peers.meter import Meter
from peers.pair_cases import BETA, LEARNING_RATE
from peers.stage import ALIKE, Lines, adapter, assembled, opened_data, stage_runner, trained

CHOSEN: dict[PairLoss, str] = {"dpo": "chosen", "kto": "desirable"}
"""Loss → name of the better responses in metrics."""


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the measurements, and the mean log-probability of chosen by step.

    The measurement begins when the weights are loaded, before a reference is made or computed.
    """
    settings = {
        **ALIKE,
        "model": str(model),
        "data": str(rows),
        "adapter": adapter(case.adapter),
        "loss": case.loss,
        "beta": BETA,
        "sequences_per_step": case.rows_per_step,
        "learning_rate": LEARNING_RATE,
        **contender.settings,
    }
    origins = stage_recipe("prefer", settings, output=str(output))
    inputs, meter, chosen = opened_data(origins), Meter(), list[float]()

    def loaded(*given: Any) -> dict[str, Model]:
        models = load_models(*given)
        meter.loaded(models["policy"].model)
        return models

    def on_lines(lines: Lines) -> None:
        for line in trained(lines):
            meter.losses.append(float(line["train/loss"]))
            chosen.append(float(line[f"train/logprob_{CHOSEN[case.loss]}"]))
        meter.step()

    with stage_runner(origins, inputs.feed, output, on_lines) as run:
        with mock.patch.object(kind, "load_models", loaded):
            stage = assembled(inputs)
        run(stage)
    return {**meter.figures(), "chosen": chosen}
