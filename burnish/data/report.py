"""What became of a data set: counted while it was prepared, told before it is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from burnish.data.writer import PINNED


@dataclass(frozen=True, slots=True)
class Dropped:
    """Samples that were left out for one reason."""

    reason: str
    count: int
    where: tuple[str, ...]
    """File and line of the first few."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row that was left out because it cannot be used."""

    where: str
    """File and line."""
    given: str
    """What is wrong with it."""
    rule: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """What became of a set."""

    source: str
    """The file or hub name."""
    format: str
    """Name of the format of the rows."""
    unused_columns: tuple[str, ...]
    """Columns that the format does not look at."""
    rows: int
    """Rows read."""
    usable: int
    """Rows of which something is learned: an epoch draws each of them once (of documents, each of their pieces)."""
    conversations: int
    """Rows that the chat template wrote; the others are plain text."""
    groups: int
    """Groups made: one per row, more where a template rewrites earlier turns."""
    dropped: tuple[Dropped, ...]
    """Empty: nothing was left out."""
    unusable: int
    """Rows that cannot be used, left out by leave of max_invalid_fraction."""
    cut: int
    """Groups cut to the limit."""
    shortened: int
    """Conversations that lost their earliest turns."""
    tokens: int
    """Tokens of all groups, prompts included."""
    trained_tokens: int
    """Tokens that are learned."""
    longest: int
    """Tokens of the longest group."""
    end_tokens: frozenset[int]
    """Token ids that end learned turns: generation must stop at these."""
    unended_turns: int
    """Learned turns whose template writes no end token: they do not teach the model to stop."""
    straddling_turns: int
    """Learned turns whose first token begins in the prompt, see `Sample`."""
    with_control_text: int
    """Groups whose row has text of control tokens, which was read as ordinary text."""
    preamble: str
    """What the template says before the first message, such as a default system message; "": nothing."""
    writes_date: bool
    """Whether the template asks for today's date, and was told the pinned one."""
    example: tuple[tuple[str, bool], ...]
    """The first group as text, in runs: (text, whether it is learned)."""

    def card(self) -> dict[str, Any]:
        """The report as JSON, with all but the first of its lines as ``notes``."""
        notes = [note.strip() for note in self._notes()]
        return {**asdict(self), "end_tokens": sorted(self.end_tokens), "notes": notes}

    def lines(self) -> Iterator[str]:
        """The report for people: what was read, what is learned, and what deserves a second look."""
        share = self.trained_tokens / self.tokens
        yield (
            f"{self.source}: {self.rows:,} rows ({self.format}), {self.tokens:,} tokens, {share:.0%} of them learned, "
            f"longest {self.longest:,}"
        )
        yield from self._notes()

    def _notes(self) -> Iterator[str]:
        for dropped in self.dropped:
            yield f"  dropped {dropped.count:,}: {dropped.reason} ({', '.join(dropped.where)} ...)"
        if self.unusable:
            yield f"  {self.unusable:,} rows cannot be used and were left out: unusable.jsonl says why"
        if self.cut:
            yield f"  cut {self.cut:,} to the limit"
        if self.shortened:
            yield f"  took the earliest turns from {self.shortened:,} conversations"
        if self.unused_columns:
            yield f"  columns without use: {', '.join(self.unused_columns)}"
        if self.unended_turns:
            yield f"  {self.unended_turns:,} learned turns have no end token: they do not teach the model to stop"
        if self.straddling_turns:
            yield f"  {self.straddling_turns:,} learned turns begin inside a token of their prompt"
        if self.with_control_text:
            yield (
                f"  {self.with_control_text:,} groups have text of control tokens, kept as ordinary text "
                "(special_tokens_in_text=tokens makes tokens of it)"
            )
        if self.preamble:
            yield f"  the template says by itself: {self.preamble!r}"
        if self.writes_date:
            yield f"  the template writes today's date: it was told {PINNED:%-d %B %Y}, so that tokens stay the same"
