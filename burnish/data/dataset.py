"""Tokenized data set: its samples, the rule for long ones, and a report of every row.

Between `cache` and `streaming`, from which sources draw groups. No row is left out silently: an unusable row is an
error unless a fraction of them is allowed, and rows that are left out or cut are counted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from burnish.data.cache import samples_of
from burnish.data.empty_answers import rows_with_empty_answers
from burnish.data.formats.format import MEDIA_COLUMNS, Format
from burnish.data.formats.recognize import recognize
from burnish.data.limits import Limit
from burnish.data.report import DataReport, Unusable
from burnish.data.rows import Rows
from burnish.data.sample_builder import SampleBuilder
from burnish.data.selection import Selection, select
from burnish.data.settings import Comparison, Overlong, SpecialTokenRule, TrainOn
from burnish.data.shown_text import runs
from burnish.data.template import Template
from burnish.data.template_options import check_options
from burnish.data.token_store import DOCUMENT, ORDINARY, SHORTENED, STRADDLING, UNENDED, RowError, TokenStore
from burnish.data.tokenize import to_response
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.prefix_tree import Fork, PrefixTree
from burnish.types import Group, Response
from burnish.vision.processing import ImageProcessing

_MAX_PLACES = 5
"""Rows named in a message; the others are counted."""
_EXAMPLE = 4096
"""Tokens shown of each sequence of the first group."""
_GROWTH, _TEMPLATE_BYTES = 2, 2048
"""Bounds of the text of a row: times the bytes of the row in its file (tools may be indented), and bytes that the
template adds. A row beyond them that is too long stops the run."""
_SEPARATORS = {"response": "\n— and not —\n", "text": "\n— and then —\n"}
"""Separators in the report: of the responses of a comparison; of the texts of one and of the samples of a conversation,
which are shown from where they leave the one before."""


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedDataset(Sequence[Group]):
    """Groups in the order of their rows: one response, the samples of a conversation whose earlier turns the template
    rewrites, or the compared responses with the best first. Tokens stay in the cache, mapped into memory.

    Example: ``dataset[0].prompt``, ``dataset[0].metadata == {"source": "demos.jsonl", "row": 0}``.
    """

    samples: TokenStore
    """Tokens of all rows, also of rows that are left out."""
    picked: Selection
    """Ranges of those tokens that form the groups."""
    origin: Rows
    """Rows that the samples come from, with their source, file and line."""
    report: DataReport
    limit: Limit
    """Maximum length of a sequence."""
    unusable: tuple[Unusable, ...]
    """Unusable rows, which were left out."""

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
        """Units of an epoch: the groups of each usable row, or each piece of a document."""
        return _Pieces(self) if self.samples.notes[:, DOCUMENT].any() else _ByRow.of(self)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[groups] tokens of each group, with its prompt counted once."""
        return self.picked.group_lengths

    @property
    def left_out(self) -> Iterator[Unusable]:
        """Every row that was left out, as a whole or in part, with the reason."""
        yield from self.unusable
        reason = "; ".join(dropped.reason for dropped in self.picked.dropped)
        for row in self.picked.long_rows.tolist():
            rule, remedy = f"a row has at most {self.limit}", self.limit.raised(then=", or ") + "shorten the row"
            yield Unusable(self.origin.where(row), reason, rule, remedy)

    @property
    def fingerprint(self) -> str:
        """Hash of the groups (sha256). Equal for equal rows, tokenizer, template and settings."""
        digest = hashlib.sha256(f"burnish groups 3 {self.samples.fingerprint}".encode())
        selection = self.picked
        for array in (
            selection.starts,
            selection.lengths,
            selection.prompt_lengths,
            selection.rows,
            selection.group_starts,
        ):
            digest.update(np.ascontiguousarray(array, "<i8").view(np.uint8).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False, slots=True)
class _ByRow(Sequence[Sequence[Group]]):
    """Groups by usable row: one, or several where the samples of a row have no common first token."""

    dataset: TokenizedDataset
    group_starts: NDArray[np.int64]
    """[usable rows + 1] index of the first group of each, and the number of groups."""

    @classmethod
    def of(cls, dataset: TokenizedDataset) -> _ByRow:
        firsts = np.unique(dataset.picked.group_rows, return_index=True)[1]
        return cls(dataset, np.append(firsts, len(dataset)))

    def __len__(self) -> int:
        return len(self.group_starts) - 1

    def __getitem__(self, index: int) -> Sequence[Group]:  # type: ignore[override]  # taken singly
        at = range(len(self))[index]
        return self.dataset[int(self.group_starts[at]) : int(self.group_starts[at + 1])]


@dataclass(frozen=True, eq=False, slots=True)
class _Pieces(Sequence[Sequence[Group]]):
    """Groups one by one, for documents."""

    dataset: TokenizedDataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sequence[Group]:  # type: ignore[override]  # taken singly
        return (self.dataset[index],)


@dataclass(frozen=True, eq=False)
class DatasetSpec:
    """Settings that turn the rows of a data set into groups: a sample builder, and rules for long and unusable rows.

    Example: ``DatasetSpec(SampleBuilder(rows, FORMATS["chat"], writer), max_length=512).whole()``.
    """

    builder: SampleBuilder
    max_length: int
    """Maximum tokens of a sequence, at least 2."""
    overlong: Overlong = "error"
    """Rule for longer sequences. Documents are always cut into pieces."""
    max_invalid_fraction: float = 0.0
    """Fraction of the rows that may be unusable and are then left out."""
    limit_key: str = "max_length"
    """Setting that `max_length` comes from, in messages."""

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
        max_positions: int | None = None,
        overlong: Overlong = "error",
        train_on: TrainOn = "assistant",
        special_tokens_in_text: SpecialTokenRule = "text",
        chat_template_kwargs: Mapping[str, object] | None = None,
        max_invalid_fraction: float = 0.0,
        comparison: Comparison | None = None,
        limit_key: str = "max_length",
        last_text_only: bool = False,
        images: ImageProcessing | None = None,
    ) -> DatasetSpec:
        """Builds the specification from rows, tokenizer and template.

        Args:
            format: a name in `FORMATS`, or a format; None: recognized by the columns.
            max_positions: maximum length of a sequence of the model, in tokens; None: it is not known.
            comparison: the kind of comparison that the loss needs; None: rows have single responses.
            limit_key: setting that the maximum length comes from, in messages.
            last_text_only: whether of compared responses of several texts only the last is kept.
            images: image processing of the model; None: it takes text alone.

        Raises:
            ModelError: the template reads no variable with the name of one of `chat_template_kwargs`.
        """
        check_options(template, chat_template_kwargs or {})
        chosen = format if isinstance(format, Format) else recognize(rows.columns, format)
        writer = Writer(tokenizer, template, chat_template_kwargs or {}, images)
        turns_within = max_length if overlong == "drop_turns" else None
        builder = SampleBuilder(
            rows,
            chosen,
            writer,
            train_on,
            special_tokens_in_text,
            turns_within,
            comparison,
            max_positions,
            limit_key if turns_within is not None else "max_length",
            last_text_only,
        )
        return cls(builder, max_length, overlong, max_invalid_fraction, limit_key)

    @property
    def limit(self) -> Limit:
        """The maximum length with its origin, for messages."""
        return Limit(self.max_length, self.builder.max_tokens, self.limit_key)

    @property
    def may_leave_out(self) -> bool:
        """True if the rules allow rows to be left out; the number of usable rows is then known only after all rows are
        tokenized. False: every row is usable, or stops the run.

        With ``overlong=auto``, rows may be left out only if one may be too long: if its bytes are not few enough to
        exclude that. (A token writes at least a byte.)
        """
        return (
            self.overlong == "drop" or self.max_invalid_fraction > 0 or (self.overlong == "auto" and self._may_be_long)
        )

    @cached_property
    def _may_be_long(self) -> bool:
        sizes = self.builder.rows.sizes
        return sizes is None or int(sizes.max(initial=0)) * _GROWTH + _TEMPLATE_BYTES > self.max_length

    @cached_property
    def identity(self) -> str:
        """sha256 of all inputs that determine the groups. Known before any group is built."""
        parts = [
            "burnish preparation 3",
            self.builder.content,
            self.max_length,
            self.overlong,
            self.max_invalid_fraction,
        ]
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

    def whole(self, workers: int | None = None, told: Callable[[int, int], None] | None = None) -> TokenizedDataset:
        """Tokenizes all rows, or reads them from the cache.

        Args:
            workers: worker processes in addition to this one; None: by the number of cores and rows.
            told: progress callback, called with the number of rows done and of all rows.

        Raises:
            DataError: more rows are unusable than allowed, or rows are too long and the rule is error.
        """
        rows, samples = self.builder.rows, samples_of(self.builder, workers, told)
        selection, faults = self._select(samples)
        unusable_rows = {fault.row for fault in faults}
        if len(unusable_rows) > self.max_invalid_fraction * len(rows):
            raise unusable_error(rows, faults, self.max_invalid_fraction)
        if not selection.num_groups:
            raise _nothing_left(rows, selection, self.limit)
        unusable = tuple(Unusable(rows.where(fault.row), fault.given, fault.rule, fault.remedy) for fault in faults)
        report = _report(self.builder, samples, selection, unusable)
        return TokenizedDataset(samples, selection, rows, report, self.limit, unusable)

    def row(self, row: int) -> tuple[Group, ...]:
        """Tokenizes one row. Returns the groups that `whole` has for it; empty if the row is left out.

        Raises:
            DataError: the row is unusable or too long, and the rule is error.
        """
        samples = self.builder.make(row, row + 1)
        selection, faults = self._select(samples)
        if faults and not self.max_invalid_fraction:
            raise unusable_error(self.builder.rows, faults, 0)
        return tuple(_group(samples, selection, at, self.builder.rows) for at in range(selection.num_groups))

    def example(self) -> tuple[tuple[str, bool], ...]:
        """Text of the first group of the first row, in runs: (text, whether it is learned); empty without a group."""
        samples = self.builder.make(0, 1)
        selection, _ = self._select(samples)
        return _first_group_text(samples, selection, self.builder.writer.tokenizer) if selection.num_groups else ()

    def _select(self, samples: TokenStore) -> tuple[Selection, list[RowError]]:
        rule: Overlong = self.overlong if self.overlong != "auto" or self.may_leave_out else "error"
        selection, cut_faults = select(self.builder.rows, samples, self.limit, rule)
        return selection, sorted((*samples.faults, *cut_faults), key=lambda fault: fault.row)


def _group(samples: TokenStore, selection: Selection, at: int, origin: Rows) -> Group:
    first, last = int(selection.group_starts[at]), int(selection.group_starts[at + 1])
    start, row = int(selection.starts[first]), int(selection.rows[first])
    length = int(selection.lengths[first])
    media = tuple(m for m in samples.media(int(selection.samples[first])) if m.span[1] <= length)
    end = max([int(selection.prompt_lengths[first]), *(medium.span[1] for medium in media)])
    assert end == selection.prompt_lengths[first] or last - first == 1, "images are in the prompt of all responses"
    prompt = samples.tokens[start : start + end]
    begins = [at for at in range(first, last) if selection.texts[at] == 0]
    group = Group(
        prompt=torch.from_numpy(prompt.astype(np.int64)),
        responses=tuple(
            _response(samples, selection, range(*pair), end if media else None) for pair in pairwise([*begins, last])
        ),
        prompt_weights=_prompt_weights(samples, slice(start, start + end)) if media else None,
        media=media,
        metadata={"source": origin.source_of(row), "row": row},
    )
    beyond = [int(selection.shared[at] - selection.prompt_lengths[first]) for at in begins[1:]]
    return replace(group, tree=_tree(beyond, in_order=samples.compared)) if any(beyond) else group


def _prompt_weights(samples: TokenStore, prompt: slice) -> Tensor | None:
    """[P] weights of learned tokens before the last image: earlier turns; None: there are none."""
    trainable = samples.trainable[prompt]
    if not trainable.any():
        return None
    weights = np.ones(len(trainable), np.float32) if samples.weights is None else samples.weights[prompt]
    return torch.from_numpy(np.array(weights * trainable, np.float32))


def _tree(beyond: Sequence[int], *, in_order: bool) -> PrefixTree:
    """The tree of responses of which each has so many tokens after the prompt in common with the one before it.

    Of a conversation the last turn is first in it, since the earlier ones branch off from it.
    """
    count = len(beyond) + 1
    if in_order:
        return PrefixTree(tuple(range(count)), (0, *beyond))
    return PrefixTree(tuple(reversed(range(count))), (0, *reversed(beyond)))


def _response(samples: TokenStore, selection: Selection, texts: range, prompt_length: int | None) -> Response:
    """Response of one or several texts: their tokens after the prompt, or after what is shared with the text before.

    Args:
        prompt_length: tokens of a prompt that ends with its last image; None: those of the selection.
    """
    first = texts[0]
    prompt = int(selection.prompt_lengths[first]) if prompt_length is None else prompt_length
    sizes = [int(selection.lengths[at]) for at in texts]
    shared = [prompt, *(int(selection.shared[at]) for at in texts[1:])]
    begins = [int(selection.starts[at]) for at in texts]
    parts = [slice(begin + a, begin + b) for begin, a, b in zip(begins, shared, sizes, strict=True)]

    def joined(values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([values[part] for part in parts])

    stored = math.nan if samples.worth is None else float(samples.worth[selection.samples[first]])
    response = to_response(
        joined(samples.tokens),
        joined(samples.trainable),
        None if samples.weights is None else joined(samples.weights),
        None if math.isnan(stored) else stored,
        None if samples.scores is None else tuple(samples.scores[selection.samples[first]].tolist()),
        None if samples.labels is None else joined(samples.labels),
    )
    starts = accumulate(size - common for size, common in zip(sizes, shared, strict=True))
    forks = zip(starts, (common - prompt for common in shared[1:]), strict=False)
    return replace(response, forks=tuple(Fork(*fork) for fork in forks)) if len(texts) > 1 else response


def _report(
    builder: SampleBuilder, samples: TokenStore, selection: Selection, unusable: tuple[Unusable, ...]
) -> DataReport:
    rows, chosen, writer = builder.rows, builder.format, builder.writer
    notes = samples.notes[selection.samples]
    first_pieces = np.unique(selection.samples, return_index=True)[1]  # pieces of one document share its notes
    conversations = samples.conversations
    empty = rows_with_empty_answers(samples, writer.tokenizer).tolist()
    return DataReport(
        source=rows.source,
        format=chosen.name,
        unused_columns=_unused(builder, samples),
        rows=len(rows),
        usable=len(np.unique(selection.group_rows)),
        conversations=conversations,
        groups=selection.num_groups,
        dropped=selection.dropped,
        unusable=len(unusable),
        cut=selection.num_cut,
        shortened=int(np.count_nonzero(notes[first_pieces, SHORTENED])),
        tokens=int(selection.group_lengths.sum()),
        sequences=len(selection.lengths),
        sequence_tokens=int(selection.lengths.sum()),
        trained_tokens=selection.trained_tokens,
        longest=int(selection.lengths.max()),
        end_tokens=frozenset(samples.ends),
        unended_turns=int(notes[first_pieces, UNENDED].sum()),
        straddling_turns=int(notes[first_pieces, STRADDLING].sum()),
        with_control_text=int(np.count_nonzero(notes[first_pieces, ORDINARY])),
        empty_answers=tuple(rows.where(row) for row in empty[:_MAX_PLACES]),
        num_empty_answers=len(empty),
        unused_keys=samples.unused_keys,
        remarks=tuple(sorted(samples.remarks.items())),
        preamble=writer.preamble if conversations else "",
        writes_date=conversations > 0 and writer.writes_date,
        example=_first_group_text(samples, selection, writer.tokenizer),
    )


def _unused(builder: SampleBuilder, samples: TokenStore) -> tuple[str, ...]:
    """Columns without use. Whether a column `image` has images is known from the rows."""
    unused = builder.format.unused(builder.rows.columns)
    return unused if samples.image_counts is None else tuple(name for name in unused if name not in MEDIA_COLUMNS)


def _first_group_text(
    samples: TokenStore, selection: Selection, tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[str, bool], ...]:
    """Text of the prompt and of each response or sample of the first group, the best first."""
    text_runs: list[tuple[str, bool]] = []
    for at in range(int(selection.group_starts[1])):
        compared = samples.compared and selection.texts[at] == 0
        begin = int(selection.prompt_lengths[0] if compared else selection.shared[at]) if at else 0
        start, size = int(selection.starts[at]), min(int(selection.lengths[at]), _EXAMPLE)
        part = slice(start + begin, start + size)
        parts = runs(samples.tokens[part], samples.trainable[part], tokenizer)
        separator = [(_SEPARATORS["response" if compared else "text"], False)] if at else []
        text_runs += [*separator, *((text, bool(learned)) for text, learned in parts)]
    return tuple(text_runs)


def unusable_error(rows: Rows, faults: Sequence[RowError], allowed: float) -> DataError:
    """Error for more unusable rows than allowed, with the first few of them."""
    unusable = dict.fromkeys(fault.row for fault in faults)
    places = [(rows.where(fault.row), fault.given) for fault in faults[:_MAX_PLACES]]
    messages = [given if given.startswith(f"{where} ") else f"{where}: {given}" for where, given in places]
    more = f"\n  ... {len(unusable)} of {len(rows)} rows cannot be used" if len(unusable) > 1 or allowed else ""
    if allowed:
        more += f", more than max_invalid_fraction={allowed:g} allows"
    first = faults[0]
    return DataError(given="\n  ".join(messages) + more, rule=first.rule, remedy=first.remedy)


def _nothing_left(rows: Rows, selection: Selection, limit: Limit) -> DataError:
    reasons = "; ".join(f"{dropped.count:,} {dropped.reason}" for dropped in selection.dropped)
    return DataError(
        given=f"no sample of {rows.source} is left ({reasons or 'all rows are unusable'})",
        rule="at least one sample is left to learn from",
        remedy=f"{limit.raised(then=', or ')}use overlong=truncate"
        if selection.dropped
        else "correct the rows, or name other data",
    )
