"""A whole set made ready: rows to groups, kept compactly, with a report of what became of every row.

The last step of the data stage, built on `formats`, `template` and `tokenize`; sources read what it gives. Nothing is
left out silently: a row that cannot be used stops the preparation, and what the user chose to drop or cut is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from burnish.data.formats import Completion, Format, recognise
from burnish.data.read import Rows
from burnish.data.report import DataReport, Dropped
from burnish.data.template import Rendering, complete, render
from burnish.data.tokenize import Sample, to_group, tokenize
from burnish.errors import DataError
from burnish.types import Group

Overlong = Literal["stop", "drop", "cut"]
"""What happens to a sample longer than the limit: an error, left out and counted, or cut at its end and counted."""

_BATCH = 512
"""Renderings tokenised at once."""
_SHOWN = 5
"""Places named in a message, the others are counted."""


@dataclass(frozen=True, eq=False, slots=True)
class Prepared(Sequence[Group]):
    """Groups of one response each, in the order of their rows, stored flat: 5 bytes a token.

    Example: ``prepared[0].prompt``, ``prepared[0].metadata == {"source": "demos.jsonl", "row": 0}``.
    """

    tokens: NDArray[np.int32]
    """[total] token ids of all groups, prompt and response joined."""
    trainable: NDArray[np.bool_]
    """[total] what is learned."""
    offsets: NDArray[np.int64]
    """[groups + 1] where each group begins and ends in the two above."""
    prompt_lengths: NDArray[np.int64]
    """[groups] tokens of each prompt."""
    rows: NDArray[np.int64]
    """[groups] index of the row that each group comes from."""
    report: DataReport

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | Sequence[Group]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        part = slice(int(self.offsets[at]), int(self.offsets[at + 1]))
        metadata = {"source": self.report.source, "row": int(self.rows[at])}
        return to_group(self.tokens[part], self.trainable[part], int(self.prompt_lengths[at]), metadata)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[groups] tokens of each group."""
        return np.diff(self.offsets)

    @property
    def fingerprint(self) -> str:
        """Identity of what is learned (sha256 of the arrays): the same rows, tokenizer and template give the same."""
        digest = hashlib.sha256(b"burnish groups 1")
        for array in (self.tokens, self.trainable, self.offsets, self.prompt_lengths, self.rows):
            stored = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(len(stored).to_bytes(8, "little"))
            digest.update(stored.view(np.uint8).data)
        return digest.hexdigest()


@dataclass(eq=False, slots=True)
class _Outcome:
    """What has become of the rows so far."""

    samples: list[Sample] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    """The row of each sample."""
    unusable: list[tuple[int, DataError]] = field(default_factory=list)
    """Rows that cannot be used, with the reason, by row."""
    conversations: int = 0
    """Rows that the template wrote."""


def prepare(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    *,
    format: str | None = None,
    max_length: int,
    overlong: Overlong = "stop",
) -> Prepared:
    """Groups of all rows, at most ``max_length`` tokens each; DataError if any row cannot be used.

    ``template`` is Jinja source, see `choose_template`; ``format`` a name in `FORMATS`, None: from the columns.
    """
    assert max_length >= 2, "a group has at least a token of prompt and one of response"
    chosen = recognise(rows.columns, format)
    outcome = _tokenised(rows, chosen, tokenizer, template)
    if outcome.unusable:
        raise _unusable(rows, outcome.unusable)
    too_long = [i for i, sample in enumerate(outcome.samples) if len(sample.tokens) > max_length]
    kept, dropped = _limited(rows, outcome, too_long, max_length, overlong)
    cut = len(too_long) if overlong == "cut" else 0
    return _packed(rows, chosen, tokenizer, kept, dropped, cut)


def _tokenised(rows: Rows, chosen: Format, tokenizer: PreTrainedTokenizerBase, template: str) -> _Outcome:
    outcome = _Outcome()
    for batch in _batches(_renderings(rows, chosen, tokenizer, template, outcome)):
        samples = tokenize([rendering for _, rendering in batch], tokenizer)
        for (row, rendering), sample in zip(batch, samples, strict=True):
            if sample is None:
                outcome.unusable.append((row, _nothing_learned(rendering)))
            else:
                outcome.samples.append(sample)
                outcome.rows.append(row)
    outcome.unusable.sort(key=lambda fault: fault[0])
    return outcome


def _renderings(
    rows: Rows, chosen: Format, tokenizer: PreTrainedTokenizerBase, template: str, outcome: _Outcome
) -> Iterator[tuple[int, Rendering]]:
    for index in range(len(rows)):
        try:
            example = chosen.convert(rows[index])
            if isinstance(example, Completion):
                written: tuple[Rendering, ...] = (complete(example, tokenizer),)
            else:
                outcome.conversations += 1
                written = render(example, tokenizer, template)
        except DataError as error:
            outcome.unusable.append((index, error))
            continue
        yield from ((index, rendering) for rendering in written)


def _batches(renderings: Iterator[tuple[int, Rendering]]) -> Iterator[list[tuple[int, Rendering]]]:
    batch: list[tuple[int, Rendering]] = []
    for entry in renderings:
        batch.append(entry)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _limited(
    rows: Rows, outcome: _Outcome, too_long: list[int], max_length: int, overlong: Overlong
) -> tuple[_Outcome, tuple[Dropped, ...]]:
    """The samples within the limit, by the rule that the user chose."""
    if not too_long:
        return outcome, ()
    if overlong == "stop":
        raise _overlong(rows, outcome, too_long, max_length)
    if overlong == "cut":
        return replace(outcome, samples=_cut(rows, outcome, too_long, max_length)), ()
    left_out = set(too_long)
    kept = [i for i in range(len(outcome.samples)) if i not in left_out]
    where = tuple(rows.where(outcome.rows[i]) for i in too_long[:_SHOWN])
    dropped = Dropped(f"longer than {max_length} tokens", len(too_long), where)
    if not kept:
        raise DataError(
            given=f"all {len(too_long)} samples of {rows.source} are longer than {max_length} tokens and were dropped",
            rule="at least one sample is left to learn from",
            remedy="raise max_length, or use overlong=cut",
        )
    samples, kept_rows = [outcome.samples[i] for i in kept], [outcome.rows[i] for i in kept]
    return replace(outcome, samples=samples, rows=kept_rows), (dropped,)


def _cut(rows: Rows, outcome: _Outcome, too_long: Sequence[int], max_length: int) -> list[Sample]:
    """All samples, the long ones without their ends; each must keep something to learn."""
    samples = list(outcome.samples)
    hopeless = [i for i in too_long if not samples[i].trainable[:max_length].any()]
    if hopeless:
        longest = max(samples[i].prompt_length for i in hopeless)
        raise DataError(
            given=f"{_places(rows, [outcome.rows[i] for i in hopeless])}: the prompt alone fills {max_length} tokens "
            f"(the longest has {longest}), cut to that nothing is left to learn",
            rule="a sample has its whole prompt and at least one learned token",
            remedy=f"raise max_length above {longest}, use overlong=drop, or delete such rows",
        )
    for i in too_long:
        size = int(np.flatnonzero(samples[i].trainable[:max_length])[-1]) + 1
        samples[i] = replace(samples[i], tokens=samples[i].tokens[:size], trainable=samples[i].trainable[:size])
    return samples


def _packed(
    rows: Rows,
    chosen: Format,
    tokenizer: PreTrainedTokenizerBase,
    outcome: _Outcome,
    dropped: tuple[Dropped, ...],
    cut: int,
) -> Prepared:
    samples = outcome.samples
    lengths = np.array([len(sample.tokens) for sample in samples], np.int64)
    trainable = np.concatenate([sample.trainable for sample in samples])
    report = DataReport(
        source=rows.source,
        format=chosen.name,
        unused_columns=chosen.unused(rows.columns),
        rows=len(rows),
        conversations=outcome.conversations,
        groups=len(samples),
        dropped=dropped,
        cut=cut,
        tokens=int(lengths.sum()),
        trained_tokens=int(trainable.sum()),
        longest=int(lengths.max()),
        end_tokens=frozenset(end for sample in samples for end in sample.ends),
        unended_turns=sum(sample.num_unended for sample in samples),
        straddling_turns=sum(sample.num_straddling for sample in samples),
        example=_shown(samples[0], tokenizer),
    )
    return Prepared(
        tokens=np.concatenate([sample.tokens for sample in samples]),
        trainable=trainable,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        prompt_lengths=np.array([sample.prompt_length for sample in samples], np.int64),
        rows=np.array(outcome.rows, np.int64),
        report=report,
    )


def _shown(sample: Sample, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[str, bool], ...]:
    borders = np.flatnonzero(np.diff(sample.trainable)) + 1
    runs = zip(np.split(sample.tokens, borders), np.split(sample.trainable, borders), strict=True)
    return tuple((str(tokenizer.decode(run.tolist())), bool(mask[0])) for run, mask in runs)


def _places(rows: Rows, indices: Sequence[int]) -> str:
    """Where the first few rows are, in words."""
    more = f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
    return ", ".join(rows.where(index) for index in indices[:_SHOWN]) + more


def _nothing_learned(rendering: Rendering) -> DataError:
    return DataError(
        given=f"no token is left to learn in {rendering.text[-60:]!r}",
        rule="a row has at least one token to learn, after something that predicts it",
        remedy="give the row an answer, or delete it",
    )


def _unusable(rows: Rows, faults: Sequence[tuple[int, DataError]]) -> DataError:
    places = dict.fromkeys(row for row, _ in faults)
    shown = [f"{rows.where(row)}: {error.given}" for row, error in faults[:_SHOWN]]
    more = f"\n  ... {len(places)} of {len(rows)} rows cannot be used" if len(places) > 1 else ""
    first = faults[0][1]
    return DataError(given="\n  ".join(shown) + more, rule=first.rule, remedy=first.remedy)


def _overlong(rows: Rows, outcome: _Outcome, too_long: Sequence[int], max_length: int) -> DataError:
    longest = max(len(outcome.samples[i].tokens) for i in too_long)
    places = _places(rows, [outcome.rows[i] for i in too_long])
    return DataError(
        given=f"{len(too_long)} of {len(outcome.samples)} samples of {rows.source} are longer than {max_length} "
        f"tokens; the longest has {longest} ({places})",
        rule="nothing is cut or left out unless it was asked for",
        remedy=f"raise max_length to {longest}, or leave them out (overlong=drop), or cut their ends (overlong=cut)",
    )
