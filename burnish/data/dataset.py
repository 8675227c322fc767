"""A set made ready: its samples, the rule for long ones, and a report of what became of every row.

Over `cache` and under `feed`, from which sources draw. Nothing is left out silently: a row that
cannot be used stops the preparation unless a share of them was allowed, and what was left out or cut is counted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from burnish.data.cache import samples_of
from burnish.data.formats.format import Format
from burnish.data.formats.recognize import recognize
from burnish.data.report import DataReport, Unusable
from burnish.data.rows import Rows
from burnish.data.sample_builder import SampleBuilder
from burnish.data.selection import Selection, select
from burnish.data.settings import Comparison, Overlong, SpecialTokenRule, TrainOn
from burnish.data.template import Template
from burnish.data.token_store import DOCUMENT, ORDINARY, SHORTENED, STRADDLING, UNENDED, RowError, TokenStore
from burnish.data.tokenize import to_response
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.types import Group, Response

_SHOWN = 5
"""Places named in a message, the others are counted."""
_EXAMPLE = 4096
"""Tokens of each sequence of the first group that the report shows."""
_BETWEEN = "\n— and not —\n"
"""Stands between the answers of a comparison."""


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedDataset(Sequence[Group]):
    """Groups in the order of their rows: of one response, or of those that are compared, the best first. Tokens stay in
    the cache, mapped into memory.

    Example: ``prepared[0].prompt``, ``prepared[0].metadata == {"source": "demos.jsonl", "row": 0}``.
    """

    samples: TokenStore
    """The tokens of all rows, also of those that are left out."""
    picked: Selection
    """Which parts of them are the groups."""
    origin: Rows
    """The rows that they come from: they know their source, file and line."""
    report: DataReport
    unusable: tuple[Unusable, ...]
    """Every row that was left out because it cannot be used."""

    def __len__(self) -> int:
        return self.picked.num_groups

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | Sequence[Group]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return _group(self.samples, self.picked, range(len(self))[index], self.origin)

    @property
    def draws(self) -> Sequence[Sequence[Group]]:
        """What is drawn as one: the groups of each usable row, or each piece of documents."""
        return _Pieces(self) if self.samples.notes[:, DOCUMENT].any() else _ByRow.of(self)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[groups] tokens of each group, its prompt once."""
        return self.picked.group_lengths

    @property
    def fingerprint(self) -> str:
        """Identity of what is learned (sha256): the same rows, tokenizer, template and settings give the same."""
        digest = hashlib.sha256(f"burnish groups 3 {self.samples.fingerprint}".encode())
        picked = self.picked
        for array in (picked.starts, picked.lengths, picked.prompt_lengths, picked.rows, picked.opens):
            digest.update(np.ascontiguousarray(array, "<i8").view(np.uint8).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False, slots=True)
class _ByRow(Sequence[Sequence[Group]]):
    """The groups of each usable row: one, or several where the template rewrites earlier turns."""

    prepared: TokenizedDataset
    opens: NDArray[np.int64]
    """[usable rows + 1] the first group of each, and the number of groups."""

    @classmethod
    def of(cls, prepared: TokenizedDataset) -> _ByRow:
        firsts = np.unique(prepared.picked.group_rows, return_index=True)[1]
        return cls(prepared, np.append(firsts, len(prepared)))

    def __len__(self) -> int:
        return len(self.opens) - 1

    def __getitem__(self, index: int) -> Sequence[Group]:  # type: ignore[override]  # taken singly
        at = range(len(self))[index]
        return self.prepared[int(self.opens[at]) : int(self.opens[at + 1])]


@dataclass(frozen=True, eq=False, slots=True)
class _Pieces(Sequence[Sequence[Group]]):
    """Every group by itself."""

    prepared: TokenizedDataset

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, index: int) -> Sequence[Group]:  # type: ignore[override]  # taken singly
        return (self.prepared[index],)


@dataclass(frozen=True, eq=False)
class DatasetSpec:
    """What decides which groups the rows of a set become: how samples are made, and the rules for long and bad ones.

    Example: ``DatasetSpec(SampleBuilder(rows, FORMATS["chat"], writer), max_length=512).whole()``.
    """

    maker: SampleBuilder
    max_length: int
    """Most tokens of a group, at least 2."""
    overlong: Overlong = "error"
    """What happens to longer ones. Documents are always cut into pieces."""
    max_invalid_fraction: float = 0.0
    """Share of the rows that may be unusable, and are then left out."""

    def __post_init__(self) -> None:
        assert self.max_length >= 2, "a group has at least a token of prompt and one of response"

    @classmethod
    def of(
        cls,
        rows: Rows,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        *,
        format: str | Format | None = None,
        max_length: int,
        overlong: Overlong = "error",
        train_on: TrainOn = "assistant",
        special_tokens_in_text: SpecialTokenRule = "text",
        chat_template_kwargs: Mapping[str, object] | None = None,
        max_invalid_fraction: float = 0.0,
        comparison: Comparison | None = None,
    ) -> DatasetSpec:
        """
        Args:
            format: a name in `FORMATS`, or a format; None: from the columns.
            comparison: what is learned from judged responses; None: rows have none.
        """
        chosen = format if isinstance(format, Format) else recognize(rows.columns, format)
        writer = Writer(tokenizer, template, chat_template_kwargs or {})
        within = max_length if overlong == "drop_turns" else None
        maker = SampleBuilder(rows, chosen, writer, train_on, special_tokens_in_text, within, comparison)
        return cls(maker, max_length, overlong, max_invalid_fraction)

    @property
    def may_leave_out(self) -> bool:
        """Whether the rules let rows be left out: how many are usable is then known of all together alone. False: every
        row is usable, or stops the run."""
        return self.overlong == "drop" or self.max_invalid_fraction > 0

    @cached_property
    def identity(self) -> str:
        """sha256 of all that decides the groups. Known before any is made."""
        parts = ["burnish preparation 3", self.maker.content, self.max_length, self.overlong, self.max_invalid_fraction]
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

    def whole(self, workers: int | None = None, told: Callable[[int, int], None] | None = None) -> TokenizedDataset:
        """Groups of all rows.

        Args:
            workers: processes that make samples beside this one; None: as many as it is worth.
            told: called with the rows done and all rows while samples are made.

        Raises:
            DataError: more rows are unusable than allowed, or rows are too long and the rule is to stop.
        """
        rows, samples = self.maker.rows, samples_of(self.maker, workers, told)
        picked, faults = self._picked(samples)
        unusable_rows = {fault.row for fault in faults}
        if len(unusable_rows) > self.max_invalid_fraction * len(rows):
            raise unusable_error(rows, faults, self.max_invalid_fraction)
        if not picked.num_groups:
            raise _nothing_left(rows, picked)
        unusable = tuple(Unusable(rows.where(fault.row), fault.given, fault.rule, fault.remedy) for fault in faults)
        return TokenizedDataset(samples, picked, rows, _report(self.maker, samples, picked, unusable), unusable)

    def row(self, row: int) -> tuple[Group, ...]:
        """The groups of one row, made on the spot: those that `whole` gives for it; none if it may be left out, and is.

        Raises:
            DataError: the row is unusable or too long, and the rule is to stop.
        """
        samples = self.maker.make(row, row + 1)
        picked, faults = self._picked(samples)
        if faults and not self.max_invalid_fraction:
            raise unusable_error(self.maker.rows, faults, 0)
        return tuple(_group(samples, picked, at, self.maker.rows) for at in range(picked.num_groups))

    def example(self) -> tuple[tuple[str, bool], ...]:
        """The first group of the first row as text, in runs: (text, whether it is learned); nothing if it has none."""
        samples = self.maker.make(0, 1)
        picked, _ = self._picked(samples)
        return _shown(samples, picked, self.maker.writer.tokenizer) if picked.num_groups else ()

    def _picked(self, samples: TokenStore) -> tuple[Selection, list[RowError]]:
        picked, hopeless = select(self.maker.rows, samples, self.max_length, self.overlong)
        return picked, sorted((*samples.faults, *hopeless), key=lambda fault: fault.row)


def _group(samples: TokenStore, picked: Selection, at: int, origin: Rows) -> Group:
    first, last = int(picked.opens[at]), int(picked.opens[at + 1])
    start, row = int(picked.starts[first]), int(picked.rows[first])
    prompt = samples.tokens[start : start + int(picked.prompt_lengths[first])]
    return Group(
        prompt=torch.from_numpy(prompt.astype(np.int64)),
        responses=tuple(_response(samples, picked, each) for each in range(first, last)),
        metadata={"source": origin.source_of(row), "row": row},
    )


def _response(samples: TokenStore, picked: Selection, at: int) -> Response:
    """What follows the prompt of a sequence."""
    start = int(picked.starts[at])
    part = slice(start + int(picked.prompt_lengths[at]), start + int(picked.lengths[at]))
    weights = None if samples.weights is None else samples.weights[part]
    worth = math.nan if samples.worth is None else float(samples.worth[picked.samples[at]])
    reward = None if math.isnan(worth) else worth
    scores = None if samples.scores is None else tuple(samples.scores[picked.samples[at]].tolist())
    labels = None if samples.labels is None else samples.labels[part]
    return to_response(samples.tokens[part], samples.trainable[part], weights, reward, scores, labels)


def _report(maker: SampleBuilder, samples: TokenStore, picked: Selection, unusable: tuple[Unusable, ...]) -> DataReport:
    rows, chosen, writer = maker.rows, maker.format, maker.writer
    notes = samples.notes[picked.samples]
    once = np.unique(picked.samples, return_index=True)[1]  # pieces of one document share its notes
    conversations = samples.conversations
    return DataReport(
        source=rows.source,
        format=chosen.name,
        unused_columns=chosen.unused(rows.columns),
        rows=len(rows),
        usable=len(np.unique(picked.group_rows)),
        conversations=conversations,
        groups=picked.num_groups,
        dropped=picked.dropped,
        unusable=len(unusable),
        cut=picked.num_cut,
        shortened=int(np.count_nonzero(notes[once, SHORTENED])),
        tokens=int(picked.group_lengths.sum()),
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


def _shown(samples: TokenStore, picked: Selection, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[str, bool], ...]:
    """The prompt and each response of the first group, the best first."""
    shown: list[tuple[str, bool]] = []
    for at in range(int(picked.opens[1])):
        prompt = int(picked.prompt_lengths[at]) if at else 0
        start, size = int(picked.starts[at]), min(int(picked.lengths[at]), _EXAMPLE)
        part = slice(start + prompt, start + size)
        parts = runs(samples.tokens[part], samples.trainable[part], tokenizer)
        shown += [*([(_BETWEEN, False)] if at else []), *((text, bool(learned)) for text, learned in parts)]
    return tuple(shown)


def runs(
    tokens: NDArray[np.int32], learned: NDArray[np.bool_] | NDArray[np.float32], tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[str, float], ...]:
    """A sample as text, in runs: (text, whether it is learned, or with which weight)."""
    borders = np.flatnonzero(learned[1:] != learned[:-1]) + 1
    parts = zip(np.split(tokens, borders), np.split(learned, borders), strict=True)
    return tuple((str(tokenizer.decode(part.tolist())), values[0].item()) for part, values in parts)


def unusable_error(rows: Rows, faults: Sequence[RowError], allowed: float) -> DataError:
    """What is wrong with rows, more than the allowed share of which cannot be used."""
    places = dict.fromkeys(fault.row for fault in faults)
    shown = [f"{rows.where(fault.row)}: {fault.given}" for fault in faults[:_SHOWN]]
    more = f"\n  ... {len(places)} of {len(rows)} rows cannot be used" if len(places) > 1 or allowed else ""
    if allowed:
        more += f", more than max_invalid_fraction={allowed:g} allows"
    first = faults[0]
    return DataError(given="\n  ".join(shown) + more, rule=first.rule, remedy=first.remedy)


def _nothing_left(rows: Rows, picked: Selection) -> DataError:
    reasons = "; ".join(f"{dropped.count:,} {dropped.reason}" for dropped in picked.dropped)
    return DataError(
        given=f"no sample of {rows.source} is left ({reasons or 'all rows are unusable'})",
        rule="at least one sample is left to learn from",
        remedy="raise max_length, or use overlong=cut" if picked.dropped else "correct the rows, or name other data",
    )
