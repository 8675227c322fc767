"""Verdicts written down, one JSON object a line, so that a resumed run reads them instead of asking again.

Beside `judge`. A line is keyed by all that decides a verdict (the reward's settings and code, the answers' content), so
the order of lines says nothing. Failures are not written: they are asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from burnish.errors import RunError
from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward
from burnish.tasks.verdict import Failure, Outcome


def content_key(reward: Reward, answers: Sequence[ResponseView]) -> str:
    """What the verdicts of these answers, judged together, are kept under."""
    text = "\n".join([reward.identity, *(answer.key for answer in answers)])
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(eq=False)
class VerdictCache:
    """The open file, and all that is in it. A torn last line, which a kill can leave, is cut off on opening.

    Example: ``with VerdictCache.open(folder / "verdicts.jsonl") as journal: journal.read(key)``.
    """

    _descriptor: int
    _known: dict[str, list[float | None]]

    @classmethod
    def open(cls, path: Path) -> VerdictCache:
        """Opens or makes the file.

        Raises:
            RunError: a line of it is no verdict.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        os.ftruncate(descriptor, len(whole))
        try:
            known = dict(_entry(line, path, number) for number, line in enumerate(whole.splitlines(), 1))
        except RunError:
            os.close(descriptor)
            raise
        return cls(descriptor, known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._known)

    def read(self, key: str) -> list[float | None] | None:
        """The verdicts under a key; None: nobody has asked."""
        return self._known.get(key)

    def write(self, key: str, metric: str, outcomes: Sequence[Outcome]) -> None:
        """Keeps them, unless one is a failure. What was written is safe from kill -9. The first verdict stays."""
        numbers = [each for each in outcomes if not isinstance(each, Failure)]
        if len(numbers) < len(outcomes) or key in self._known:
            return
        rest = (json.dumps({"key": key, "metric": metric, "verdicts": numbers}) + "\n").encode()
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._known[key] = numbers

    def close(self) -> None:
        os.close(self._descriptor)


def _entry(line: bytes, path: Path, number: int) -> tuple[str, list[float | None]]:
    try:
        entry = json.loads(line)
        verdicts = entry["verdicts"]
        if all(each is None or isinstance(each, int | float) for each in verdicts):
            return str(entry["key"]), [None if each is None else float(each) for each in verdicts]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, number, str(error)) from error
    raise _damaged(path, number, "verdicts are numbers or null")


def _damaged(path: Path, number: int, why: str) -> RunError:
    return RunError(
        given=f"{path} line {number} is no verdict: {why}",
        rule="a journal is written by Burnish alone, one JSON object a line",
        remedy="delete the line; its answers are judged again",
    )
