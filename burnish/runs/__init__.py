"""The run folder, its checkpoints, and what exact resume needs."""

from burnish.model.fingerprint import frozen_fingerprint
from burnish.runs.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from burnish.runs.folder import RunFolder
from burnish.runs.json_value import JSON
from burnish.runs.random_state import capture_random, restore_random
from burnish.runs.resumption import Stand, keep, resume
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.runs.training_state import capture, changed_versions, require_facts, restore

__all__ = [
    "JSON",
    "Checkpoint",
    "RunFolder",
    "StageFolder",
    "Stand",
    "StopSignal",
    "capture",
    "capture_random",
    "changed_versions",
    "frozen_fingerprint",
    "keep",
    "latest_checkpoint",
    "load_checkpoint",
    "require_facts",
    "restore",
    "restore_random",
    "resume",
    "save_checkpoint",
]
