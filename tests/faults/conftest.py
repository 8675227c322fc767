"""Fixtures: a tiny model, a few rows, and the fork server whose children may be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from burnish.builtin.sets import builtin_rows, generate, write_rows
from burnish.builtin.tiny import write_untrained
from tests.conversations import FORGETFUL, pair, talk

Run = Callable[..., dict[str, int]]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a teacher, a template, and data files."""
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_untrained(folder / "teacher", seed=5, hidden_size=32, layers=2)
    write_rows(folder / "train.jsonl", generate(seed=1, count=60))
    write_rows(folder / "test.jsonl", generate(seed=2, count=10))
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=60))
    write_rows(folder / "pairs-test.jsonl", builtin_rows("preferences", "test", count=10))
    (folder / "forgetful.jinja").write_text(FORGETFUL)
    talks = {"turns": 24, "turns-test": 4}
    for name, count in talks.items():
        write_rows(
            folder / f"{name}.jsonl",
            [{"messages": talk(1 + n % 4, first=n, thought=40, question=40)} for n in range(count)],
        )
        pairs = [pair(1 + n % 3, first=n, thought=30, question=30) for n in range(count)]
        write_rows(folder / f"pairs-of-{name}.jsonl", pairs)
    return folder


@pytest.fixture(scope="session")
def fork_server() -> Iterator[Run]:
    """Runs a command in a forked child, with a kill, limits or signals as `fork_server.py` describes them."""
    script = Path(__file__).parent / "fork_server.py"
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def run(*arguments: str, kill_at: int | None = None, **options: dict[str, object]) -> dict[str, int]:
        assert process.stdin is not None
        assert process.stdout is not None
        job = {"arguments": [*map(str, arguments)], "kill_at": kill_at, "limits": {}, "signals": {}, **options}
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait()
    process.stdout.close()
