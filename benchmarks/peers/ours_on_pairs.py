"""Burnish as a contender: the stage `prefer` of a recipe, assembled and run as by `burnish prefer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from burnish.model.policy import Model
from burnish.recipe.read import stage_recipe
from burnish.stages import assemble as assembling
from burnish.stages.open_policy import open_policy
from burnish.stages.supervised_data import StageContext, SupervisedData
from peers.cases import Case, Contender, PairLoss
from peers.meter import Meter
from peers.pair_cases import BETA, LEARNING_RATE
from peers.stage import ALIKE, Lines, adapter, stage_runner, trained

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
    inputs, meter, chosen = SupervisedData.of(StageContext.of(origins.recipe)), Meter(), list[float]()

    def opened(opener: StageContext) -> Model:
        policy = open_policy(opener)
        meter.loaded(policy.model)
        return policy

    def on_lines(lines: Lines) -> None:
        for line in trained(lines):
            meter.losses.append(float(line["train/loss"]))
            chosen.append(float(line[f"train/logprob_{CHOSEN[case.loss]}"]))
        meter.step()

    with stage_runner(origins, inputs.feed, output, on_lines) as run:
        with mock.patch.object(assembling, "open_policy", opened):
            stage = assembling.assemble(origins.recipe, inputs, "prefer")
        run(stage)
    return {**meter.figures(), "chosen": chosen}
