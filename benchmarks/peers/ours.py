"""Burnish as a contender: the stage of a recipe, assembled and run as by `burnish sft`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch

from burnish.recipe.read import stage_recipe
from burnish.settings.adapter import Adapter
from burnish.watch.peak import measured_peak
from peers.cases import LEARNING_RATE, Case, Contender
from peers.meter import Meter
from peers.stage import ALIKE, Lines, adapter, assembled, opened_data, stage_runner, trained


def has(kind: str) -> bool:
    """Whether this version of Burnish has such an adapter."""
    return kind in get_args(Adapter.model_fields["kind"].annotation)


def train(case: Case, contender: Contender, model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """One epoch over the rows; returns the measurements, the FLOPs of each step, and the machine's peak."""
    settings = {
        **ALIKE,
        "model": str(model),
        "data": str(rows),
        "adapter": adapter(case.adapter),
        "sequences_per_step": case.rows_per_step,
        "learning_rate": LEARNING_RATE,
        **contender.settings,
    }
    origins = stage_recipe("sft", settings, output=str(output))
    inputs, meter = opened_data(origins), Meter()

    def on_lines(lines: Lines) -> None:
        meter.losses += [float(line["train/loss"]) for line in trained(lines)]
        meter.step()

    with stage_runner(origins, inputs.feed, output, on_lines) as run:
        stage = assembled(inputs)
        meter.loaded(stage.policy.model.model)
        run(stage)
    policy = stage.policy.model
    stage.source.load_state_dict({}, {"position": 0})
    flops = [policy.num_flops(groups) for groups in stage.source]
    return {**meter.figures(), "flops": flops, "matmul_peak": measured_peak(torch.device("cpu"), torch.float32)}
