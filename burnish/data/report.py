"""Report of a tokenized data set: counts of rows and tokens, and warnings before training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from burnish.data.writer import PINNED


@dataclass(frozen=True, slots=True)
class Dropped:
    """Samples that were dropped for one reason."""

    reason: str
    count: int
    where: tuple[str, ...]
    """File and line of the first few."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Unusable row, which was left out."""

    where: str
    """File and line."""
    given: str
    """The error of the row."""
    rule: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """Counts and warnings of a tokenized data set."""

    source: str
    """The file or hub name."""
    format: str
    """Name of the format of the rows."""
    unused_columns: tuple[str, ...]
    """Columns that the format does not use."""
    rows: int
    """Rows read."""
    usable: int
    """Rows with a learned token: an epoch draws each of them once (of documents, each piece)."""
    conversations: int
    """Rows that the chat template rendered; the others are plain text."""
    groups: int
    """Groups: one per row; of documents, one per piece."""
    dropped: tuple[Dropped, ...]
    """Empty: no sample was dropped."""
    unusable: int
    """Unusable rows, left out under max_invalid_fraction."""
    cut: int
    """Samples truncated to max_length."""
    shortened: int
    """Conversations that lost their earliest turns."""
    tokens: int
    """Tokens of all groups, prompts included; what sequences of a group share counts once."""
    sequences: int
    """Responses with their prompts, and samples of conversations whose earlier turns the template rewrites."""
    sequence_tokens: int
    """Tokens of all sequences, each counted whole."""
    trained_tokens: int
    """Learned tokens."""
    longest: int
    """Tokens of the longest group."""
    end_tokens: frozenset[int]
    """Token ids that end learned turns; generation stops at them."""
    unended_turns: int
    """Learned turns whose template writes no end token: they do not teach the model to stop."""
    straddling_turns: int
    """Learned turns whose first token begins in the prompt, see `Sample`."""
    with_control_text: int
    """Groups whose row has text of control tokens, which was tokenized as ordinary text."""
    empty_answers: tuple[str, ...]
    """Rows with a learned turn without text, as file and line of the first few."""
    num_empty_answers: int
    """Number of these rows."""
    unused_keys: tuple[str, ...]
    """Keys of messages that the template does not read."""
    remarks: tuple[tuple[str, int], ...]
    """What is said of some rows, with their number."""
    preamble: str
    """Text that the template writes before the first message, such as a default system message; "": none."""
    writes_date: bool
    """True if the template reads today's date, which was replaced by a fixed one."""
    example: tuple[tuple[str, bool], ...]
    """Text of the first group, in runs: (text, whether it is learned)."""

    def card(self) -> dict[str, Any]:
        """JSON record of the report, with all but the first of its lines as ``notes``."""
        notes = [note.strip() for note in self._notes()]
        return {**asdict(self), "end_tokens": sorted(self.end_tokens), "notes": notes}

    @property
    def has_plain_prompts(self) -> bool:
        """Whether all rows are prompts with responses as plain text, which no chat template renders."""
        return not self.conversations and self.format in ("prompt_completion", "preference", "ranking", "labels")

    def lines(self) -> Iterator[str]:
        """Yields the lines of the report for the log: counts, then warnings."""
        share = self.trained_tokens / self.sequence_tokens
        yield (
            f"{self.source}: {self.rows:,} rows ({self.format}), {self.sequence_tokens:,} tokens, {share:.0%} of them "
            f"learned, longest {self.longest:,}"
        )
        yield from self._notes()

    def _notes(self) -> Iterator[str]:
        yield from self._left_out()
        if self.unused_columns:
            yield f"  columns without use: {', '.join(self.unused_columns)}"
        if self.unused_keys:
            yield f"  message keys without use: {', '.join(self.unused_keys)}"
        for remark, count in self.remarks:
            yield f"  {count:,} rows {remark}"
        yield from self._about_tokens()

    def _left_out(self) -> Iterator[str]:
        for dropped in self.dropped:
            more = " ..." if dropped.count > len(dropped.where) else ""
            yield f"  dropped {dropped.count:,}: {dropped.reason} ({', '.join(dropped.where)}{more})"
        if self.unusable:
            yield f"  {self.unusable:,} rows cannot be used and were left out: unusable.jsonl says why"
        if self.cut:
            yield f"  cut {self.cut:,} to the limit"
        if self.shortened:
            yield f"  took the earliest turns from {self.shortened:,} conversations"

    def _about_tokens(self) -> Iterator[str]:
        if self.sequence_tokens > self.tokens:
            yield (
                f"  {self.sequences:,} sequences of {self.sequence_tokens:,} tokens share their beginnings, "
                f"which leaves {self.tokens:,} to compute"
            )
        if self.unended_turns:
            yield f"  {self.unended_turns:,} learned turns have no end token: they do not teach the model to stop"
        if self.straddling_turns:
            yield f"  {self.straddling_turns:,} learned turns begin inside a token of their prompt"
        if self.num_empty_answers:
            places = ", ".join(self.empty_answers) + (", ..." * (self.num_empty_answers > len(self.empty_answers)))
            yield (
                f"  {self.num_empty_answers:,} rows have an empty answer, which teaches the model to end at once "
                f"({places})"
            )
        if self.with_control_text:
            yield (
                f"  {self.with_control_text:,} groups have text of control tokens, kept as ordinary text "
                "(special_tokens_in_text=tokens makes tokens of it)"
            )
        if self.preamble:
            yield f"  the template writes before the first message: {self.preamble!r}"
        if self.writes_date:
            yield f"  the template writes today's date: it is fixed to {PINNED:%-d %B %Y}, so that tokens stay the same"
