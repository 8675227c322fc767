"""Processes of tests that wait for a program. Used by `paired`.

Tests that only compare what a call returns with a value run none of the data set's code, so their process is as it was
and takes the next program. Tests with code of their own get a new process, which runs nothing else.
"""

from __future__ import annotations

import builtins
import select
import socket
import threading
from dataclasses import replace

from burnish.sandbox.base import Limits, SandboxError
from burnish.sandbox.box import Box
from burnish.sandbox.server.exchange import ClosedError, receive
from burnish.sandbox.tests import AssertTest, CallTest, TestSuite, call_of

LIMITS = Limits(memory_mib=2048)
"""Limits of a process of tests, but for its time."""
FOREVER = 1e9
"""Seconds: of processes that wait for programs. Their owner ends them."""


class Testers:
    """Processes of tests that wait. Safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: list[Box] = []
        self._lock = threading.Lock()

    def take(self) -> Box | None:
        """One that waits; its caller gives it back or closes it. None: there is none."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                box = self._idle.pop()
            if not select.select([box.report], [], [], 0)[0]:
                return box
            box.close()  # it has ended

    def give(self, box: Box) -> None:
        """Gives one back that has done all that it was asked for."""
        with self._lock:
            self._idle.append(box)

    def close(self) -> None:
        """Ends all that wait."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()


def confirmed(box: Box) -> Box:
    """A new process once it is confined.

    Raises:
        SandboxError: it is not.
    """
    control = box.control
    assert isinstance(control, socket.socket), "a process of tests has a channel to its caller"
    try:
        said = receive(control)
    except ClosedError:
        said = {}
    if "confined" not in said:
        box.close()
        raise SandboxError(said.get("failed", "the process of the tests ended before it was confined"))
    return box


def without_code(suite: TestSuite) -> tuple[TestSuite, bool] | None:
    """A suite whose tests all compare a call with a value, and whether they compare as ``==`` does; None: there is
    code to run."""
    if isinstance(suite.tests[0], CallTest):
        return suite, False
    if suite.setup.strip():
        return None
    calls = [call_of(test) for test in suite.tests if isinstance(test, AssertTest)]
    found = tuple(call for call in calls if call is not None)
    python = {call.function for call in found if hasattr(builtins, call.function)} - set(suite.names or ())
    return (replace(suite, tests=found), True) if len(found) == len(suite.tests) and not python else None
