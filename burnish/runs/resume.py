"""Saves a stage's training state as a checkpoint, and restores it when the same command runs again.

Uses `training_state`, which defines the state, and `checkpoint`, which writes it; used by the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from burnish.runs.checkpoint import LatestCheckpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from burnish.runs.stage_folder import StageFolder
from burnish.runs.training_state import (
    TrainState,
    capture_checkpoint,
    changed_versions,
    require_fingerprints,
    restore_checkpoint,
)


def save(folder: StageFolder, state: TrainState, *, step: int, at_most: int) -> Path:
    """Writes the checkpoint of a step, with the journals' offsets, and keeps the newest `at_most` checkpoints. Of
    several processes, each writes its pieces of divided weights, and the main one everything that all have.

    Returns:
        The folder of the checkpoint.
    """
    checkpoint = capture_checkpoint(state, step, {"offsets": folder.offsets()})
    return save_checkpoint(folder.path, checkpoint, at_most, folder.run.world)


def restore(folder: StageFolder, state: TrainState, log: Callable[[str], None]) -> int:
    """Restores the newest checkpoint and cuts the journals back to it.

    Returns:
        The steps done; 0: there is no checkpoint.

    Raises:
        RunError: a fingerprint differs from that in the checkpoint.
    """
    world = folder.run.world
    newest = world.gather(latest_checkpoint(folder.path) if world.is_main else LatestCheckpoint(None, ()))[0]
    for warning in newest.damaged:
        log(warning)
    if newest.path is None:
        folder.cut(None)
        return 0
    checkpoint = load_checkpoint(newest.path, verified=True)
    require_fingerprints(checkpoint, state.facts)
    restore_checkpoint(checkpoint, state)
    folder.cut(checkpoint.values["facts"]["offsets"])
    for note in (*changed_versions(checkpoint), f"resuming from step {checkpoint.step}"):
        log(note)
    return checkpoint.step
