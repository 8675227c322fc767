"""Cache of reward outcomes on disk, one JSON object a line, so that a resumed run need not grade again.

Used by `reward_runner`. A line is keyed by everything that determines an outcome (the reward's settings and code, the
content of the answers), so the order of lines has no meaning. Failures are not cached: those answers are graded again.
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
from burnish.grading.protocol import outcome_of, plain_outcome
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import Failure, Outcome


def content_key(reward: Reward, answers: Sequence[ResponseView]) -> str:
    """Key of the outcomes of answers that are graded together."""
    text = "\n".join([reward.identity, *(answer.key for answer in answers)])
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(eq=False)
class VerdictCache:
    """Cache of outcomes: the open file and its entries. An incomplete last line, left by a kill, is cut off on opening.

    Example: ``with VerdictCache.open(folder / "verdicts.jsonl") as cache: cache.read(key)``.
    """

    _descriptor: int
    _entries: dict[str, list[float | None]]

    @classmethod
    def open(cls, path: Path) -> VerdictCache:
        """Opens or creates the file.

        Raises:
            RunError: a line of it is not a cached outcome.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        os.ftruncate(descriptor, len(whole))
        try:
            entries = dict(_entry(line, path, number) for number, line in enumerate(whole.splitlines(), 1))
        except RunError:
            os.close(descriptor)
            raise
        return cls(descriptor, entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, key: str) -> list[float | None] | None:
        """Outcomes under a key; None: not cached."""
        return self._entries.get(key)

    def write(self, key: str, metric: str, outcomes: Sequence[Outcome]) -> None:
        """Stores outcomes, unless one is a failure or the key is present. A line that was written survives kill -9."""
        numbers = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
        if len(numbers) < len(outcomes) or key in self._entries:
            return
        verdicts = [plain_outcome(number) for number in numbers]
        rest = (json.dumps({"key": key, "metric": metric, "verdicts": verdicts}) + "\n").encode()
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._entries[key] = numbers

    def close(self) -> None:
        os.close(self._descriptor)


def _entry(line: bytes, path: Path, number: int) -> tuple[str, list[float | None]]:
    try:
        entry = json.loads(line)
        return str(entry["key"]), [outcome_of(verdict) for verdict in entry["verdicts"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, number, str(error)) from error


def _damaged(path: Path, number: int, reason: str) -> RunError:
    return RunError(
        given=f"{path} line {number} is not a cached outcome: {reason}",
        rule="the cache of rewards is written by Burnish only, one JSON object a line",
        remedy="delete the line; its responses are graded again",
    )
