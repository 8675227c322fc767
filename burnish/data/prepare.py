"""A whole set made ready: its samples, the rule for long ones, and a report of what became of every row.

The last step of the data stage, over `cache`; sources read what it gives. Nothing is left out silently: a row that
cannot be used stops the preparation unless a share of them was allowed, and what was left out or cut is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from burnish.data.cache import samples_of
from burnish.data.formats import Format, recognise
from burnish.data.lengths import Overlong, Picked, pick
from burnish.data.maker import ControlRule, Maker
from burnish.data.rendering import TrainOn
from burnish.data.report import DataReport, Unusable
from burnish.data.rows import Rows
from burnish.data.store import ORDINARY, SHORTENED, STRADDLING, UNENDED, Fault, Stretch
from burnish.data.template import Template
from burnish.data.tokenize import to_group
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.types import Group

_SHOWN = 5
"""Places named in a message, the others are counted."""
_EXAMPLE = 4096
"""Tokens of the first group that the report shows."""


@dataclass(frozen=True, eq=False, slots=True)
class Prepared(Sequence[Group]):
    """Groups of one response each, in the order of their rows. Tokens stay in the cache, mapped into memory.

    Example: ``prepared[0].prompt``, ``prepared[0].metadata == {"source": "demos.jsonl", "row": 0}``.
    """

    samples: Stretch
    """The tokens of all rows, also of those that are left out."""
    picked: Picked
    """Which parts of them are the groups."""
    origin: Rows
    """The rows that they come from: they know their source, file and line."""
    report: DataReport
    unusable: tuple[Unusable, ...]
    """Every row that was left out because it cannot be used."""

    def __len__(self) -> int:
        return len(self.picked.starts)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | Sequence[Group]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        start = int(self.picked.starts[at])
        part = slice(start, start + int(self.picked.lengths[at]))
        row = int(self.picked.rows[at])
        metadata = {"source": self.origin.source_of(row), "row": row}
        samples, prompt = self.samples, int(self.picked.prompt_lengths[at])
        weights = None if samples.weights is None else samples.weights[part]
        return to_group(samples.tokens[part], samples.trainable[part], prompt, metadata, weights)

    @property
    def rows(self) -> NDArray[np.int64]:
        """[groups] index of the row that each group comes from."""
        return self.picked.rows

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[groups] tokens of each group."""
        return self.picked.lengths

    @property
    def fingerprint(self) -> str:
        """Identity of what is learned (sha256): the same rows, tokenizer, template and settings give the same."""
        digest = hashlib.sha256(f"burnish groups 2 {self.samples.fingerprint}".encode())
        for array in (self.picked.starts, self.picked.lengths, self.picked.prompt_lengths, self.picked.rows):
            digest.update(np.ascontiguousarray(array, "<i8").view(np.uint8).data)
        return digest.hexdigest()


def prepare(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    *,
    format: str | Format | None = None,
    max_length: int,
    overlong: Overlong = "stop",
    train_on: TrainOn = "assistant",
    control_text: ControlRule = "text",
    template_options: Mapping[str, object] | None = None,
    max_unusable: float = 0.0,
    workers: int | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Groups of all rows, at most ``max_length`` tokens each.

    Args:
        format: a name in `FORMATS`, or a format; None: from the columns.
        overlong: what happens to longer rows, see `Overlong`. Documents are always cut into pieces.
        max_unusable: share of the rows that may be unusable, and are then left out.
        workers: processes that make samples beside this one; None: as many as it is worth.
        told: called with the rows done and all rows while samples are made.

    Raises:
        DataError: more rows are unusable than allowed, or rows are too long and the rule is to stop.
    """
    assert max_length >= 2, "a group has at least a token of prompt and one of response"
    chosen = format if isinstance(format, Format) else recognise(rows.columns, format)
    writer = Writer(tokenizer, template, template_options or {})
    within = max_length if overlong == "cut_turns" else None
    samples = samples_of(Maker(rows, chosen, writer, train_on, control_text, within), workers, told)
    picked, hopeless = pick(rows, samples, max_length, overlong)
    faults = sorted((*samples.faults, *hopeless), key=lambda fault: fault.row)
    unusable_rows = {fault.row for fault in faults}
    if len(unusable_rows) > max_unusable * len(rows):
        raise _unusable(rows, faults, max_unusable)
    if not len(picked.starts):
        raise _nothing_left(rows, picked)
    unusable = tuple(Unusable(rows.where(fault.row), fault.given, fault.rule, fault.remedy) for fault in faults)
    return Prepared(samples, picked, rows, _report(rows, chosen, writer, samples, picked, unusable), unusable)


def _report(
    rows: Rows, chosen: Format, writer: Writer, samples: Stretch, picked: Picked, unusable: tuple[Unusable, ...]
) -> DataReport:
    notes = samples.notes[picked.samples]
    once = np.unique(picked.samples, return_index=True)[1]  # pieces of one document share its notes
    conversations = samples.conversations
    return DataReport(
        source=rows.source,
        format=chosen.name,
        unused_columns=chosen.unused(rows.columns),
        rows=len(rows),
        conversations=conversations,
        groups=len(picked.starts),
        dropped=picked.dropped,
        unusable=len(unusable),
        cut=picked.num_cut,
        shortened=int(np.count_nonzero(notes[once, SHORTENED])),
        tokens=int(picked.lengths.sum()),
        trained_tokens=picked.trained_tokens,
        longest=int(picked.lengths.max()),
        end_tokens=frozenset(samples.ends),
        unended_turns=int(notes[once, UNENDED].sum()),
        straddling_turns=int(notes[once, STRADDLING].sum()),
        with_control_text=int(np.count_nonzero(notes[once, ORDINARY])),
        preamble=writer.preamble if conversations else "",
        writes_date=conversations > 0 and writer.writes_date,
        example=_shown(samples, picked, writer.tokenizer),
    )


def _shown(samples: Stretch, picked: Picked, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[str, bool], ...]:
    start, size = int(picked.starts[0]), min(int(picked.lengths[0]), _EXAMPLE)
    part = slice(start, start + size)
    return tuple(
        (text, bool(learned)) for text, learned in runs(samples.tokens[part], samples.trainable[part], tokenizer)
    )


def runs(
    tokens: NDArray[np.int32], learned: NDArray[np.bool_] | NDArray[np.float32], tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[str, float], ...]:
    """A sample as text, in runs: (text, whether it is learned, or with which weight)."""
    borders = np.flatnonzero(learned[1:] != learned[:-1]) + 1
    parts = zip(np.split(tokens, borders), np.split(learned, borders), strict=True)
    return tuple((str(tokenizer.decode(part.tolist())), values[0].item()) for part, values in parts)


def _unusable(rows: Rows, faults: Sequence[Fault], allowed: float) -> DataError:
    places = dict.fromkeys(fault.row for fault in faults)
    shown = [f"{rows.where(fault.row)}: {fault.given}" for fault in faults[:_SHOWN]]
    more = f"\n  ... {len(places)} of {len(rows)} rows cannot be used" if len(places) > 1 or allowed else ""
    if allowed:
        more += f", more than max_unusable={allowed:g} allows"
    first = faults[0]
    return DataError(given="\n  ".join(shown) + more, rule=first.rule, remedy=first.remedy)


def _nothing_left(rows: Rows, picked: Picked) -> DataError:
    reasons = "; ".join(f"{dropped.count:,} {dropped.reason}" for dropped in picked.dropped)
    return DataError(
        given=f"no sample of {rows.source} is left ({reasons or 'all rows are unusable'})",
        rule="at least one sample is left to learn from",
        remedy="raise max_length, or use overlong=cut" if picked.dropped else "correct the rows, or name other data",
    )
