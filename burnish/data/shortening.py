"""Shorter conversations: without their earliest turns, and the longest of them that fits.

Used by `sample_builder` for overlong rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from burnish.data.records import AnyExample, Conversation, Message, RatedExample
from burnish.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class Shortenings(Sequence[AnyExample]):
    """The example without the first turn of its prompt, the first two, ...; a user's message begins a turn.

    Messages before the first user's message (the system message) stay. All responses of a comparison lose the same
    turns.
    """

    example: AnyExample
    messages: tuple[Message, ...]
    """Messages of the conversation, or of the prompt."""
    users: tuple[int, ...]
    """Index of the first user's message, and of those at which a shorter conversation may begin."""

    def __len__(self) -> int:
        return max(0, len(self.users) - 1)

    def __getitem__(self, index: int) -> AnyExample:  # type: ignore[override]  # taken singly
        start = self.users[1:][index]
        messages = self.messages[: self.users[0]] + self.messages[start:]
        if isinstance(self.example, Conversation):
            return replace(self.example, messages=messages)
        assert isinstance(self.example, RatedExample), "only conversations and comparisons are shortened"
        return replace(self.example, prompt=messages)


def shortenings(example: AnyExample) -> Shortenings:
    """Returns the shorter examples, the longest first; each has a learned turn. Of plain text there are none."""
    messages: tuple[Message, ...] = ()
    last = 0
    if isinstance(example, Conversation):
        messages = example.messages
        last = example.turns[-1] if example.turns else 0
    elif isinstance(example, RatedExample) and isinstance(example.prompt, tuple):
        messages = example.prompt
        last = len(messages)
    users = tuple(i for i, message in enumerate(messages) if message.role == "user" and i < last)
    return Shortenings(example, messages, users)


def longest_fitting(shorter: Sequence[AnyExample], built: Callable[[AnyExample], T | None]) -> T | None:
    """Returns what `built` makes of the longest example that fits; None: none fits.

    The shortest are tried first, each time with twice as many turns, and then halves between: few are built, and none
    much longer than what fits. If the template refuses one of them, every example is tried, the longest first.

    Args:
        shorter: examples, the longest first.
        built: what an example becomes; None: it is too long. Raises DataError if the template refuses it.
    """
    fits, too_long, step = len(shorter), -1, 1
    found: T | None = None
    try:
        while too_long < fits - 1:
            tried = (too_long + fits) // 2 if too_long >= 0 else max(fits - step, 0)
            result = built(shorter[tried])
            if result is None:
                too_long = tried
            else:
                fits, found, step = tried, result, 2 * step
    except DataError:
        return next((result for result in map(_tolerant(built), shorter) if result is not None), None)
    return found


def _tolerant(built: Callable[[AnyExample], T | None]) -> Callable[[AnyExample], T | None]:
    """The function, with None for an example that the template refuses."""

    def tried(example: AnyExample) -> T | None:
        try:
            return built(example)
        except DataError:  # a template may refuse a conversation that begins there; another may be valid
            return None

    return tried
