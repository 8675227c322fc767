"""Extends a stage: finds the newest checkpoint that the longer run would have too, and commits the longer run.

A checkpoint is that of the longer run if the learning rates of all steps before it are the same, the source has given
the same groups, and neither early stopping nor a fingerprint stands against it. Newer checkpoints are deleted, such as
that of a last step with fewer rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from burnish.errors import RunError
from burnish.run_files import METRICS
from burnish.runs.checkpoint import Checkpoint, checkpoints, load_checkpoint
from burnish.runs.durable import discard
from burnish.runs.extension import Extension, not_extensible
from burnish.runs.learner_state import below
from burnish.runs.stage_folder import StageFolder
from burnish.runs.training_state import TrainState
from burnish.train.early_stopping import EarlyStopping
from burnish.watch.journal_lines import MetricsLine, read_metrics

Rates = Mapping[int, Mapping[str, float]]
"""Step → the learning rate of each learner, by the name of its metric."""


def extend(folder: StageFolder, stage: str, state: TrainState, stopping: EarlyStopping, extension: Extension) -> None:
    """Makes the run folder that of the longer run, which is then resumed from its newest checkpoint.

    Args:
        folder: the folder of the stage.
        stage: its name.
        state: the state of the longer run; its source is left in any state.
        stopping: early stopping of the stage.
        extension: the change of the length.

    Raises:
        RunError: no checkpoint is that of the longer run; nothing was changed.
    """
    rates, reasons, newer = _recorded_rates(folder, stage), list[str](), list[Path]()
    last_step: int | None = None
    for path in checkpoints(folder.path):
        try:
            checkpoint = load_checkpoint(path)
        except RunError as error:
            reasons.append(error.given)
            newer.append(path)
            continue
        last_step = checkpoint.step if last_step is None else last_step
        reason = _difference(checkpoint, last_step, state, stopping, rates)
        if reason is None:
            break
        reasons.append(reason)
        newer.append(path)
    else:
        if reasons or extension.is_finished:
            raise not_extensible(extension, reasons[0] if reasons else "it has no checkpoint from which it could go on")
    folder.run.world.wait()  # all processes have read the checkpoints
    if folder.run.world.is_main:
        for path in newer:
            discard(path)
    extension.commit()


def _difference(
    checkpoint: Checkpoint, last_step: int, state: TrainState, stopping: EarlyStopping, rates: Rates
) -> str | None:
    """Reason why a checkpoint is not one of the longer run; None: it is.

    Args:
        checkpoint: the checkpoint.
        last_step: steps of the shorter run.
        state: the state of the longer run.
        stopping: early stopping of the stage.
        rates: learning rates of the steps that were done.
    """
    step, total = checkpoint.step, state.source.num_steps
    stored = checkpoint.values["facts"]
    if changed := [name for name, value in state.facts.items() if stored.get(name) != value]:
        return f"{' and '.join(changed)} of the longer run is not that of the steps that were done"
    if step >= total:
        return f"{step} steps were done, and the new length is {total} steps"
    ended = EarlyStopping(stopping.rule)
    ended.load_state_dict({}, checkpoint.values["stopping"])
    if reason := ended.reason():
        return f"the run {reason}; a longer run ends there too"
    for number in range(1, step + 1):
        planned = _planned_rates(state, number)
        for name, rate in planned.items():
            before = rates.get(number, {}).get(name)
            if before != rate:
                was = "is not recorded" if before is None else f"was {before:.6g}"
                return f"the {_words(name)} of step {number} {was}, and is {rate:.6g} in {total} steps"
    state.source.load_state_dict(below(checkpoint.tensors, "source/"), checkpoint.values["source"])
    if not state.source.can_extend(step, last_step):
        return f"the rows of step {step}, the last one, are not those of a longer run"
    return None


def _planned_rates(state: TrainState, step: int) -> Mapping[str, float]:
    """Learning rate of each learner in a step, by the name of its metric."""
    policy, *others = state.learners
    named = {f"train/{learner.name}/learning_rate": learner.learning_rate(step) for learner in others}
    return {"train/learning_rate": policy.learning_rate(step), **named}


def _recorded_rates(folder: StageFolder, stage: str) -> Rates:
    """Learning rates in metrics.jsonl."""
    lines = [line for line in read_metrics(folder.run.path / METRICS) if isinstance(line, MetricsLine)]
    return {
        line.step: {name: value for name, value in line.metrics.items() if name.endswith("learning_rate")}
        for line in lines
        if line.stage == stage and "train/learning_rate" in line.metrics
    }


def _words(name: str) -> str:
    """Example: ``train/critic/learning_rate`` is ``critic learning rate``."""
    return name.removeprefix("train/").replace("/", " ").replace("_", " ")
