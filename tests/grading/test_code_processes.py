"""The reward `code` in worker processes: what is left when a worker is killed, and a sandbox on a server."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.grading.reward_runner import RewardRunner
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Failure, FailureKind, Verdict
from burnish.sandbox.fork_server import best_level
from tests.sandbox.test_sandbox_fusion import stand_in

TESTS = ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]


def answers(*programs: str) -> list[list[ResponseView]]:
    return [[ResponseView("Write add.", f"```python\n{program}\n```", TESTS)] for program in programs]


def descendants(process: int) -> Iterator[int]:
    """Processes that a process has started, and theirs."""
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_outlives_a_worker_that_is_killed() -> None:
    settings = {"name": "code", "isolation": best_level().label, "timeout": 500.0}
    slow = {"cpu_seconds": 100, "wall_seconds": 400, "total_seconds": 400}
    graded: list[list[list[Verdict]]] = []
    with RewardRunner(read_rewards({**settings, "limits": slow}), workers=1) as grade:
        grade(answers("def add(a, b):\n    return a + b"))
        [worker] = grade._pool._workers
        idle = set(descendants(worker.popen.pid))
        sleeping = answers("import time\ndef add(a, b):\n    time.sleep(300)")
        thread = threading.Thread(target=lambda: graded.append(grade(sleeping)))
        thread.start()
        while not (running := set(descendants(worker.popen.pid))) - idle:  # its program runs
            assert thread.is_alive()
        ends = [os.pidfd_open(process) for process in running]
        os.killpg(worker.popen.pid, signal.SIGKILL)
        thread.join()
    try:
        assert all(select.select([end], [], [], 60)[0] for end in ends), "all processes have ended"
    finally:
        for end in ends:
            os.close(end)
    [[[verdict]]] = graded
    assert isinstance(verdict.reward, Failure)
    assert verdict.reward.kind is FailureKind.CRASH


def test_programs_run_on_a_server() -> None:
    with stand_in() as url, RewardRunner(read_rewards({"name": "code", "engine": url}), workers=2) as grade:
        verdicts = grade(
            answers(
                "def add(a, b):\n    return a + b",
                "def add(a, b):\n    return a - b",
                "def add(a, b): return (",
                "def add(a, b):\n    return a / 0",
                "import os\ndef add(a, b):\n    os._exit(0)",
                "'break the server'\ndef add(a, b): ...",
            )
        )
        labels = [verdict.labels["code"].name if verdict.labels else None for [verdict] in verdicts]
        assert labels == ["passed", "wrong_answer", "compile_error", "runtime_error", "exited", None]
        rewards = [verdict.reward for [verdict] in verdicts]
        assert rewards[:5] == [1.0, 0.0, 0.0, 0.0, 0.0]
        assert isinstance(rewards[5], Failure)
        assert rewards[5].kind is FailureKind.SANDBOX
        [[cannot]] = grade([[ResponseView("", answers("def add(): ...")[0][0].text, ["assert add() + 1 == 3"])]])
        assert isinstance(cannot.reward, Failure)
        assert "engine: local" in cannot.reward.detail
        [[read]] = grade([[ResponseView("", "print(input()[::-1])", json.dumps([{"input": "ab", "output": "ba"}]))]])
        assert read.reward == 1.0
