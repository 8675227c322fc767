"""Split of the rows of a data set into training rows and held-out rows, by their prompts.

Between `mixture`, which opens the rows, and `dataset`. A hash of a row's prompt and of the seed alone decides its side.
So rows with the same prompt are on the same side, and a row keeps its side in any order of the rows, and when others
are added or removed. The share is therefore approximate.
"""

from __future__ import annotations

import hashlib
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from burnish.data.mixture import Data, Part
from burnish.data.records import AnyExample, Completion, Conversation, Document, Task, TextOrMessages, responses_of
from burnish.errors import DataError

Hashes = NDArray[np.uint64]

_TRAINED = 2**64 - 1
"""Hash of a row without a usable prompt: it is a training row, whose error is reported when it is tokenized."""
_SECONDS_PER_REPORT = 1.0
_ROWS_PER_LOOK = 256
"""Rows between looks at the clock."""


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Training rows and held-out rows, with the counts of the report."""

    train: Data
    held_out: Data
    """Each of its rows once, also if a weight repeats it."""
    share: float
    """The share that was asked for."""
    rows: int
    """Number of rows of both sides; a row that a weight repeats counts once."""
    held_out_prompts: int
    """Number of different prompts among the held-out rows."""

    def line(self) -> str:
        """Log line with the numbers of rows and prompts that are held out."""
        return (
            f"held out: {len(self.held_out.rows):,} of {self.rows:,} rows (eval_share {self.share:g}), "
            f"{self.held_out_prompts:,} prompts; rows with the same prompt are on the same side"
        )


def split(data: Data, share: float, seed: int, told: Callable[[int, int], None] = lambda done, rows: None) -> Split:
    """Splits the rows of all sources. All rows are read.

    Args:
        data: opened rows.
        share: share of the prompts that is held out, 0 < share < 1. A larger share of the same seed has all rows of a
            smaller one.
        seed: seed of the hash.
        told: progress callback, called with the number of rows read and of all rows.

    Raises:
        DataError: one side has no rows.
    """
    assert 0 < share < 1, "a share is a part of the rows"
    threshold = np.uint64(int(share * 2**64))
    firsts = [_first_occurrences(part) for part in data.parts]
    progress = _Progress(told, len(data.rows))
    hashes = [_hashes(part, first, seed, progress) for part, first in zip(data.parts, firsts, strict=True)]
    progress.finish()
    held = [values < threshold for values in hashes]
    chosen = [np.flatnonzero(side & first) for side, first in zip(held, firsts, strict=True)]
    others = [np.flatnonzero(~side) for side in held]
    rows = sum(int(first.sum()) for first in firsts)
    prompts = np.unique(np.concatenate([values[at] for values, at in zip(hashes, chosen, strict=True)]))
    _require_sides(data, share, sum(map(len, others)), sum(map(len, chosen)), rows)
    kept = [int((~side & first).sum()) for side, first in zip(held, firsts, strict=True)]
    return Split(data.picked(others, kept), data.picked(chosen, list(map(len, chosen))), share, rows, len(prompts))


def prompt_text(example: AnyExample) -> str:
    """Text that decides the side of an example: its prompt, normalized for white space, case and Unicode forms.

    Of a conversation, everything before its first answer, so that a conversation and its beginning are on one side, in
    every kind of stage. Of a document, or where the prompt is empty, the whole content.

    Raises:
        DataError: the prompt has an image.
    """
    prompt = normalized(_prompt(example))
    return prompt or normalized("\n".join(sorted(_text(content) for content in _contents(example))))


def normalized(text: str) -> str:
    """Text in its compatible Unicode form, without case, with one space for each run of white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _prompt(example: AnyExample) -> str:
    if isinstance(example, Document):
        return ""
    return _text(example.messages if isinstance(example, Conversation) else example.prompt)


def _contents(example: AnyExample) -> Iterator[TextOrMessages]:
    """Responses of an example whose prompt is empty, or the text of a document."""
    match example:
        case Document():
            yield example.text
        case Completion():
            yield example.completion
        case Conversation():
            yield "\n".join(message.identity for message in example.messages)
        case Task():
            yield str(example.reference)
        case _:
            yield from responses_of(example)


def _text(content: TextOrMessages) -> str:
    """Text, or the messages before the first answer: one message as its text alone, several with their roles."""
    if isinstance(content, str):
        return content
    first = next((at for at, message in enumerate(content) if at and message.role == "assistant"), len(content))
    if first == 1:
        return content[0].identity
    return "\n".join(f"{message.role}: {message.identity}" for message in content[:first])


def _hashes(part: Part, first: NDArray[np.bool_], seed: int, progress: _Progress) -> Hashes:
    """[n] hash of the prompt of each row of a source; `first` is that of `_first_occurrences`."""
    values = np.empty(len(part.rows), np.uint64)
    for row in range(len(part.rows)):
        values[row] = _hash_of_row(part, row, seed) if first[row] else values[row - 1]
        progress.count()
    return values


@dataclass(slots=True)
class _Progress:
    """Calls of the progress callback: none in the first second, then at most one a second, and one at the end."""

    told: Callable[[int, int], None]
    rows: int
    done: int = 0
    due: float = field(default_factory=lambda: time.monotonic() + _SECONDS_PER_REPORT)
    is_shown: bool = False

    def count(self) -> None:
        self.done += 1
        if self.done % _ROWS_PER_LOOK == 0 and time.monotonic() >= self.due:
            self.told(self.done, self.rows)
            self.due, self.is_shown = time.monotonic() + _SECONDS_PER_REPORT, True

    def finish(self) -> None:
        if self.is_shown:
            self.told(self.rows, self.rows)


def _hash_of_row(part: Part, row: int, seed: int) -> int:
    try:
        text = prompt_text(part.format.convert(part.rows[row]))
    except DataError:  # reported with the other unusable rows, when rows are tokenized
        return _TRAINED
    key = seed.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest())


def _first_occurrences(part: Part) -> NDArray[np.bool_]:
    """[n] False for a row that repeats the one before it, as a weight above 1 does."""
    first = np.ones(len(part.rows), np.bool_)
    if part.source.weight > 1:
        before = ""
        for row in range(len(part.rows)):
            place = part.rows.where(row)
            first[row], before = place != before, place
    return first


def _require_sides(data: Data, share: float, trained: int, held_out: int, rows: int) -> None:
    if trained and held_out:
        return
    raise DataError(
        given=f"eval_share: {share:g} of {data.rows.source} ({rows:,} rows) leaves "
        + ("no row to train on" if held_out else "no row to evaluate on"),
        rule="a hash of its prompt and the seed decides whether a row is held out, so the share is approximate; each "
        "side has at least one row",
        remedy=f"{'lower' if held_out else 'raise'} eval_share, add rows with other prompts, or name held-out rows of "
        "your own with eval_data",
    )
