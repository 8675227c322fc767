"""A stage's state in its folder: kept where a checkpoint is due, and gone on from when the same command comes again.

Over `training_state`, which knows what the state is, and `checkpoint`, which knows how it is written; under the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from burnish.runs.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from burnish.runs.stage_folder import StageFolder
from burnish.runs.training_state import (
    StatefulObject,
    capture_checkpoint,
    changed_versions,
    require_facts,
    restore_checkpoint,
)
from burnish.sources.base import Source
from burnish.step import Trainer


@dataclass(frozen=True, eq=False, slots=True)
class TrainState:
    """Everything whose state is kept."""

    trainer: Trainer
    source: Source
    beside: Mapping[str, object]
    """What may remember something that the rest of the stage depends on, by name; what `StatefulObject` nothing is
    passed over."""
    facts: Mapping[str, str]
    """What must be the same when the run goes on."""

    @property
    def remembering(self) -> Mapping[str, StatefulObject]:
        return {name: each for name, each in self.beside.items() if isinstance(each, StatefulObject)}


def save(folder: StageFolder, stand: TrainState, *, step: int, at_most: int) -> None:
    """Writes the checkpoint of a step, with where the journals end; of all, so many of the newest stay."""
    facts = {**stand.facts, "offsets": folder.offsets()}
    save_checkpoint(
        folder.path, capture_checkpoint(stand.trainer, stand.source, step, facts, stand.remembering), at_most
    )


def restore(folder: StageFolder, stand: TrainState, say: Callable[[str], None]) -> int:
    """Restores the newest checkpoint and cuts the journals back to it.

    Returns:
        The steps done; 0: there is no checkpoint.

    Raises:
        RunError: a fact is not what it was when the checkpoint was written.
    """
    newest = latest_checkpoint(folder.path)
    for warning in newest.damaged:
        say(warning)
    if newest.path is None:
        folder.cut(None)
        return 0
    checkpoint = load_checkpoint(newest.path, verified=True)
    require_facts(checkpoint, stand.facts)
    restore_checkpoint(checkpoint, stand.trainer, stand.source, stand.remembering)
    folder.cut(checkpoint.values["facts"]["offsets"])
    for note in (*changed_versions(checkpoint), f"going on after step {checkpoint.step}"):
        say(note)
    return checkpoint.step
