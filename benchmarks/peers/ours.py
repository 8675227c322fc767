"""Burnish as a contender: the stage of a recipe, assembled and run by the loop that `burnish sft` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from burnish.recipe.adapter import Adapter
from burnish.recipe.assemble import assemble
from burnish.recipe.conditions import repeatable
from burnish.recipe.inputs import Inputs, Opener
from burnish.recipe.read import stage_recipe
from burnish.runs import RunFolder, StageFolder, StopSignal
from burnish.watch import Listeners, open_progress
from burnish.watch.peak import measured_peak
from peers.cases import ALPHA, LEARNING_RATE, RANK, Case, Contender
from peers.meter import Meter


def has(adapter: str) -> bool:
    """Whether this Burnish can train it."""
    return adapter in get_args(Adapter.model_fields["kind"].annotation)


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the rows; returns the meter's figures, the FLOPs of each step, and the machine's peak."""
    lora = {} if case.adapter == "full" else {"rank": RANK, "alpha": ALPHA}
    settings = {
        "model": str(model),
        "data": str(rows),
        "adapter": {"kind": case.adapter, **lora},
        "sequences_per_step": case.rows_per_step,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
        "warmup": 0.0,
        "log_every": 1,
        "checkpoint_every": 1_000_000,
        **contender.settings,
    }
    origins = stage_recipe("sft", settings, output=str(output))
    inputs, meter = Inputs.of(Opener.of(origins.recipe)), Meter()
    with (
        repeatable(0, only_deterministic=True),
        inputs.feed,
        RunFolder.open(output, origins.text({}), origins.identity()) as folder,
        open_progress(output / "log.txt") as progress,
        StopSignal() as stop,
    ):
        stage = assemble(origins.recipe, inputs, "sft")

        def written(lines: Sequence[dict[str, Any]]) -> None:
            """A step's line comes when it has ended: `log_every` is 1."""
            meter.losses += [float(line["train/loss"]) for line in lines if "train/loss" in line]
            meter.step()

        meter.loaded(stage.trainer.policy.model)
        stage.run(StageFolder(folder, folder.path), Listeners(folder.path, written, progress), stop)
    policy = stage.trainer.policy
    stage.source.restore({"position": 0})
    flops = [policy.num_flops(groups) for groups in stage.source]
    return {**meter.figures(), "flops": flops, "matmul_peak": measured_peak(torch.device("cpu"), torch.float32)}
