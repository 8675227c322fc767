"""Burnish as a contender: the stage `prefer` of a recipe, assembled and run by the loop that `burnish prefer` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from burnish.model.policy import Policy
from burnish.recipe import assemble as assembling
from burnish.recipe.conditions import repeatable
from burnish.recipe.inputs import Inputs, Opener
from burnish.recipe.policy import open_policy
from burnish.recipe.read import stage_recipe
from burnish.runs import RunFolder, StageFolder, StopSignal
from burnish.watch import Listeners, open_progress
from peers.cases import ALPHA, RANK, Case, Contender
from peers.meter import Meter
from peers.pair_cases import BETA, LEARNING_RATE


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the pairs; returns the meter's figures, and the mean log-probability of chosen by step.

    The meter begins when the weights are loaded, before a reference is made or asked.
    """
    origins = stage_recipe("prefer", _settings(case, contender, model, rows), output=str(output))
    inputs, meter, chosen = Inputs.of(Opener.of(origins.recipe)), Meter(), list[float]()

    def opened(opener: Opener) -> Policy:
        policy = open_policy(opener)
        meter.loaded(policy.model)
        return policy

    def written(lines: Sequence[dict[str, Any]]) -> None:
        """A step's line comes when it has ended: `log_every` is 1."""
        trained = [line for line in lines if "train/loss" in line]
        meter.losses += [float(line["train/loss"]) for line in trained]
        chosen.extend(float(line["train/logprob_chosen"]) for line in trained)
        meter.step()

    with (
        repeatable(0, only_deterministic=True),
        inputs.feed,
        RunFolder.open(output, origins.text({}), origins.identity()) as folder,
        open_progress(output / "log.txt") as progress,
        StopSignal() as stop,
    ):
        with mock.patch.object(assembling, "open_policy", opened):
            stage = assembling.assemble(origins.recipe, inputs, "prefer")
        stage.run(StageFolder(folder, folder.path), Listeners(folder.path, written, progress), stop)
    return {**meter.figures(), "chosen": chosen}


def _settings(case: Case, contender: Contender, model: Path, rows: Path) -> dict[str, Any]:
    lora = {} if case.adapter == "full" else {"rank": RANK, "alpha": ALPHA}
    return {
        "model": str(model),
        "data": str(rows),
        "adapter": {"kind": case.adapter, **lora},
        "loss": "dpo",
        "beta": BETA,
        "sequences_per_step": case.rows_per_step,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
        "warmup": 0.0,
        "log_every": 1,
        "checkpoint_every": 1_000_000,
        **contender.settings,
    }
