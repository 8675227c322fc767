"""Runs a stage and kills its own process by SIGKILL in the third step: ``python killed.py JOB.yaml``."""

import os
import signal
import sys
from pathlib import Path

import yaml

import burnish
from burnish.train.step import Trainer

job = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
whole_step = Trainer.optim_step


def dying_step(trainer: Trainer, factor: float) -> object:
    """The third update is done and never checkpointed."""
    norm = whole_step(trainer, factor)
    if trainer.optimizer.updates == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return norm


Trainer.optim_step = dying_step  # type: ignore[method-assign]
getattr(burnish, job.pop("method"))(**job)
