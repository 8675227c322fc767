"""Ctrl+C in a certain step of a run in this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from burnish.train.loop import Stage


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Inside, Ctrl+C comes as the so many-th step ends, counted over all stages."""
    after, steps = Stage._after_step, []

    def interrupted(self: Stage, number: int, *rest: object) -> None:
        steps.append(number)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGINT)
        after(self, number, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "_after_step", interrupted)
        yield
