"""Callbacks of a run that Python started: functions that are called after steps, evaluations and checkpoints.

    from burnish.train.callbacks import StepInfo

    def on_step(info: StepInfo) -> bool | None:
        print(info.step, info.metrics["train/loss"])
        return info.metrics["train/loss"] > 0.1   # False stops the run

    burnish.sft(..., on_step=on_step)               # or run(recipe, callbacks=Callbacks(on_step=on_step))

A callback stops the run by returning exactly ``False`` (None and all else continue it). The run then ends as by Ctrl+C:
it writes a checkpoint, raises `errors.Interrupted`, and the same call resumes it bit for bit. An exception in a
callback ends the run as it is; the checkpoints written before are whole. Callbacks are not part of the run identity,
and of several processes the main one calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far a stage is."""

    stage: str
    """Name of the stage."""
    step: int
    """Number of steps done; 0: before the first one."""
    total: int
    """Steps of the stage."""


@dataclass(frozen=True, slots=True)
class StepInfo(StageProgress):
    """An optimizer step that was done. Example: ``StepInfo("sft", 3, 100, {"train/loss": 1.25, "epoch": 0.03})``."""

    metrics: Mapping[str, float]
    """Metrics of the step by their names in metrics.jsonl (docs/glossary.md), without speed and memory."""


@dataclass(frozen=True, slots=True)
class EvaluationInfo(StageProgress):
    """An evaluation. Example: ``EvaluationInfo("sft", 0, 100, {"eval/loss": 3.5})``."""

    metrics: Mapping[str, float]
    """Metrics of the evaluation by their names in metrics.jsonl."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo(StageProgress):
    """A checkpoint that was written."""

    path: Path
    """Folder of the checkpoint; later ones replace it, see checkpoints.keep_last."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Functions that a run calls; None: not called. See the module."""

    on_step: Callable[[StepInfo], object] | None = None
    """Called after each step, before what is due after it. It reads the metrics, which waits for the device."""
    on_evaluation: Callable[[EvaluationInfo], object] | None = None
    """Called after each evaluation, also those before the first step and after the last."""
    on_checkpoint: Callable[[CheckpointInfo], object] | None = None
    """Called after each checkpoint is written."""


NO_CALLBACKS = Callbacks()
"""No callback."""
