"""Time of the parts of a step: calls of functions are timed and summed by step."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


class Split:
    """Seconds of each part of each step. A part's functions do not call each other."""

    def __init__(self) -> None:
        self._now: dict[str, float] = defaultdict(float)
        self.steps: list[dict[str, float]] = []

    @contextmanager
    def timing(self, *parts: tuple[Any, str, str]) -> Iterator[None]:
        """Times calls of these functions: (a class, a module or an object; its function; the part)."""
        with ExitStack() as patched:
            for owner, name, part in parts:
                patched.enter_context(mock.patch.object(owner, name, self._timed(getattr(owner, name), part)))
            yield

    def step(self) -> None:
        """Ends a step."""
        self.steps.append(dict(self._now))
        self._now.clear()

    def _timed(self, function: Any, part: str) -> Any:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._now[part] += time.perf_counter() - began

        return timed
