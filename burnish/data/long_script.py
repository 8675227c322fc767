"""Renderings of long conversations: the text up to a message from a short window of messages before it.

Used by `writer`. A template writes all messages for every rendering, and a conversation is rendered twice per learned
turn: with N turns that is the square of N. Here a conversation is divided into blocks. In a block, a rendering is the
text of the whole conversation up to the window, which is the same throughout the block, and the text of the window:
the messages before the first answer, and those from shortly before the block on. Whether a template writes so is not
assumed: for each block, and with and without generation prompt, the first and the last rendering are made of all
messages too, and if either differs, every rendering of the block is. (The last contains the text of all messages of
the block.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from burnish.data.turn_text import common_prefix
from burnish.errors import DataError

Messages = list[dict[str, object]]
Write = Callable[[Messages, bool], str]
"""(messages, with generation prompt) -> text; raises DataError if the template refuses them."""

SHORT = 64
"""Messages up to which all are rendered, and the least number of a block."""
_OVERLAP = 8
"""Least number of messages of a window before its block."""


@dataclass(frozen=True, slots=True)
class _Block:
    """How the renderings of a block are composed."""

    window: int
    """Index of the first message of the window after the opening."""
    head: str
    """Text before the window's text."""
    skipped: int
    """Characters of the window's rendering that `head` replaces."""


@dataclass(frozen=True, eq=False, slots=True)
class LongScript:
    """Messages of a conversation, rendered up to any of them."""

    messages: Messages
    write_all: Write
    blocks: dict[tuple[int, bool], _Block | None] = field(default_factory=dict)
    """(Number of the block, with generation prompt) -> how it is composed; None: every rendering needs all messages."""

    def write(self, count: int, add_generation_prompt: bool, last: dict[str, object] | None = None) -> str:
        """Renders the first `count` messages; `last` replaces the last of them.

        Raises:
            DataError: the template refuses the messages.
        """
        block = self._block(count, add_generation_prompt) if count > SHORT else None
        if block is not None:
            window = [*self.messages[: self._opening], *self.messages[block.window : count]]
            with suppress(DataError):  # its message names messages of the window; all messages give the right one
                return block.head + self.write_all(_replaced(window, last), add_generation_prompt)[block.skipped :]
        return self.write_all(_replaced(self.messages[:count], last), add_generation_prompt)

    @property
    def _opening(self) -> int:
        """Number of messages before the first answer."""
        return next((i for i, message in enumerate(self.messages) if message["role"] == "assistant"), 0)

    @property
    def _size(self) -> int:
        """Messages of a block: with their square root, blocks and windows cost about the same."""
        return max(SHORT, 2 * math.isqrt(len(self.messages)))

    def _block(self, count: int, add_generation_prompt: bool) -> _Block | None:
        if not self._is_usual(count, add_generation_prompt):
            return None
        key = (count - 1) // self._size, add_generation_prompt
        if key not in self.blocks:
            self.blocks[key] = self._composed(*key)
        return self.blocks[key]

    def _is_usual(self, count: int, add_generation_prompt: bool) -> bool:
        """True if the rendering ends before an answer (with generation prompt) or with one (without)."""
        at = count if add_generation_prompt else count - 1
        return at < len(self.messages) and self.messages[at]["role"] == "assistant"

    def _composed(self, number: int, add_generation_prompt: bool) -> _Block | None:
        start = number * self._size
        counts = range(start + 1, min(start + self._size, len(self.messages)) + 1)
        usual = [count for count in counts if self._is_usual(count, add_generation_prompt)]
        before = range(start - _OVERLAP, self._opening, -1)
        window = next((i for i in before if self.messages[i]["role"] == "assistant"), None)
        if window is None or len(usual) < 3:
            return None
        try:
            return self._checked(window, (usual[0], usual[-1]), add_generation_prompt)
        except DataError:  # a template may refuse the window, or a rendering that is not asked for
            return None

    def _checked(self, window: int, counts: Sequence[int], add_generation_prompt: bool) -> _Block | None:
        """The composition of a block, if it gives the first and the last rendering; None: it does not."""
        opening = self.messages[: self._opening]
        whole, later = (self.write_all(self.messages[:count], add_generation_prompt) for count in counts)
        short, longer = (
            self.write_all([*opening, *self.messages[window:count]], add_generation_prompt) for count in counts
        )
        skipped = min(common_prefix(short, longer), common_prefix(short, whole), len(self.write_all(opening, False)))
        if not whole.endswith(short[skipped:]):
            return None
        head = whole[: len(whole) - len(short) + skipped]
        return _Block(window, head, skipped) if later == head + longer[skipped:] else None


def _replaced(messages: Messages, last: dict[str, object] | None) -> Messages:
    return messages if last is None else [*messages[:-1], last]
