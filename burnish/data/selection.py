"""Selection of groups from tokenized samples by maximum length and the rule for overlong samples.

Between `cache` (samples of any length) and `dataset`. Nothing is copied: a group is a start and a length, so another
limit or rule needs no tokenization. (Only `drop_turns` renders conversations again, in `sample_builder`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from burnish.data.limits import Limit, table
from burnish.data.report import Dropped
from burnish.data.rows import Rows
from burnish.data.settings import MAX_OVERLONG_FRACTION, Overlong
from burnish.data.shared_prefixes import shared_prefixes
from burnish.data.token_store import DOCUMENT, TEXT_INDEX, RowError, TokenStore
from burnish.errors import DataError

_MAX_PLACES = 5

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """Groups as ranges in the tokens of all samples; N sequences (texts of responses with their prompt) in M groups."""

    starts: Ints
    """[N] index of the first token of each sequence."""
    lengths: Ints
    """[N] tokens of each sequence."""
    prompt_lengths: Ints
    """[N] tokens of its prompt."""
    rows: Ints
    """[N] index of its row."""
    samples: Ints
    """[N] index of its sample."""
    texts: Ints
    """[N] index of each among the texts of its response; 0: a response begins."""
    shared: Ints
    """[N] tokens that each has in common with the one before it in its group and that are computed once; 0: a group
    begins."""
    group_starts: Ints
    """[M + 1] index of the first sequence of each group, and N."""
    trained_tokens: int
    """Learned tokens of all groups."""
    dropped: tuple[Dropped, ...]
    """Samples that the rule left out."""
    num_cut: int
    """Samples that were truncated."""
    long_rows: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows of which the rule left out a sample, ascending."""

    @property
    def num_groups(self) -> int:
        return len(self.group_starts) - 1

    @property
    def group_rows(self) -> Ints:
        """[M] index of the row of each group."""
        return self.rows[self.group_starts[:-1]]

    @property
    def group_lengths(self) -> Ints:
        """[M] tokens of each group: what its sequences have in common once."""
        firsts = self.group_starts[:-1]
        if not len(firsts):
            return np.zeros(0, np.int64)
        return np.asarray(np.add.reduceat(self.lengths - self.shared, firsts), np.int64)


def select(rows: Rows, samples: TokenStore, limit: Limit, overlong: Overlong) -> tuple[Selection, list[RowError]]:
    """Selects the groups within the limit; also returns the rows that truncation makes unusable.

    Args:
        rows: rows of the samples.
        samples: tokenized samples, of any length.
        limit: the limit, with the model's positions, above which none is recommended.
        overlong: rule for longer samples.

    Raises:
        DataError: samples are too long, and the rule is error.
    """
    max_length, lengths = limit.tokens, np.array(samples.lengths)
    documents = samples.notes[:, DOCUMENT].astype(np.bool_)
    long = (lengths > max_length) & ~documents
    where = np.flatnonzero(long)
    if len(where) and overlong in ("error", "drop_turns"):
        # drop_turns has shortened all conversations that it can: the remaining long samples are no conversations.
        raise _overlong(rows, samples, where, limit)
    long_rows = np.unique(samples.rows[where]).astype(np.int64)
    if overlong == "auto" and len(long_rows) > MAX_OVERLONG_FRACTION * len(rows):
        raise _too_many(rows, samples, long_rows, limit)
    drops = overlong in ("auto", "drop")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[:-1]
    kept, faults = np.ones(len(lengths), np.bool_), list[RowError]()
    group = samples.groups
    unit = group if samples.compared else np.arange(len(lengths))  # what is left out together
    left_out: set[int] = set()
    if drops:
        left_out = set(unit[long].tolist())
    elif overlong == "truncate":
        for i in where:
            lengths[i] = _cut_length(samples.trainable[starts[i] : starts[i] + max_length])
        for number in dict.fromkeys(unit[where].tolist()):
            if fault := _cut_error(samples, starts, lengths, _members(unit, number), limit):
                faults.append(fault)
                left_out.add(number)
    kept = ~np.isin(unit, list(left_out)) if left_out else kept
    indices = np.flatnonzero(kept)
    pieces = _pieces(starts[indices], lengths[indices], documents[indices], max_length)
    chosen = indices[pieces.owner]
    prefixes = shared_prefixes(samples, indices, lengths[indices])
    prompts = np.where(documents[chosen], 1, prefixes.prompts[pieces.owner])
    selection = Selection(
        starts=pieces.starts,
        lengths=pieces.lengths,
        prompt_lengths=prompts,
        rows=samples.rows[chosen].astype(np.int64),
        samples=chosen,
        texts=samples.notes[chosen, TEXT_INDEX].astype(np.int64),
        shared=prefixes.shared[pieces.owner],
        trained_tokens=_count_trained(samples, pieces.starts, pieces.lengths, documents[chosen]),
        group_starts=_group_starts(group, chosen, documents),
        dropped=_dropped(rows, samples, unit, where, max_length) if drops else (),
        num_cut=int(np.count_nonzero(kept[where])) if overlong == "truncate" else 0,
        long_rows=long_rows if drops else np.zeros(0, np.int64),
    )
    return selection, faults


@dataclass(frozen=True, eq=False, slots=True)
class _Pieces:
    starts: Ints
    lengths: Ints
    owner: Ints
    """[N] index of the sample of each piece."""


def _pieces(starts: Ints, lengths: Ints, documents: NDArray[np.bool_], max_length: int) -> _Pieces:
    """Cuts long documents into consecutive pieces.

    The prompt of a piece is the last token of the piece before it, so every token of a document is learned once.
    """
    step = max_length - 1
    counts = np.where(documents, np.maximum(1, -(-(lengths - 1) // step)), 1)
    owner = np.repeat(np.arange(len(starts)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = starts[owner] + number * step
    sizes = np.where(documents[owner], np.minimum(max_length, lengths[owner] - number * step), lengths[owner])
    return _Pieces(begins, sizes, owner)


def _cut_length(trainable: NDArray[np.bool_]) -> int:
    """Number of tokens up to the last learned one; 0: none is learned."""
    learned = np.flatnonzero(trainable)
    return int(learned[-1]) + 1 if len(learned) else 0


def _count_trained(samples: TokenStore, starts: Ints, lengths: Ints, documents: NDArray[np.bool_]) -> int:
    """Counts learned tokens one sample at a time, since a set may be larger than memory."""
    total = 0
    for start, length, document in zip(starts.tolist(), lengths.tolist(), documents.tolist(), strict=True):
        begin = start + document  # the first token of a piece is its prompt
        total += int(np.count_nonzero(samples.trainable[begin : start + length]))
    return total


def _group_starts(group: Ints, chosen: Ints, documents: NDArray[np.bool_]) -> Ints:
    """[M + 1] start of each group among the sequences: where another group begins, and at every piece of a document."""
    begins = np.append(True, np.diff(group[chosen]) != 0)[: len(chosen)] | documents[chosen]
    return np.append(np.flatnonzero(begins), len(chosen)).astype(np.int64)


def _members(group: Ints, number: int) -> Ints:
    """Indices of the samples of a group; `group` is ascending."""
    first, last = np.searchsorted(group, (number, number + 1))
    return np.arange(first, last)


def _cut_error(samples: TokenStore, starts: Ints, lengths: Ints, members: Ints, limit: Limit) -> RowError | None:
    """Error of a group after truncation; None: the group is usable."""
    first = int(members[0])
    for i in members:
        if not lengths[i]:
            return _only_prompt(int(samples.rows[i]), int(samples.prompt_lengths[i]), limit)
    answers: list[list[bytes]] = []
    for i in members:
        if samples.notes[i, TEXT_INDEX] == 0:
            answers.append([])
        answers[-1].append(samples.tokens[starts[i] : starts[i] + lengths[i]].tobytes())
    if len(answers) > 1 and all(answer == answers[0] for answer in answers):
        return RowError(
            int(samples.rows[first]),
            f"the answers differ only after {limit}, where they are cut",
            "a comparison has answers that differ",
            f"{limit.raised()}use overlong=drop, or delete such rows",
        )
    return None


def _dropped(rows: Rows, samples: TokenStore, group: Ints, where: Ints, max_length: int) -> tuple[Dropped, ...]:
    firsts = where[np.unique(group[where], return_index=True)[1]]
    if not len(firsts):
        return ()
    first_places = tuple(rows.where(int(samples.rows[i])) for i in firsts[:_MAX_PLACES])
    return (Dropped(f"longer than {max_length} tokens", len(firsts), first_places),)


def _only_prompt(row: int, prompt_length: int, limit: Limit) -> RowError:
    return RowError(
        row,
        f"the prompt alone fills {limit} (it has {prompt_length:,}), cut to that nothing is left to learn",
        "a sample has its whole prompt and at least one learned token",
        (limit.raised(prompt_length + 1) if limit.positions is None or prompt_length < limit.positions else "")
        + "use overlong=drop, or delete such rows",
    )


def first_places(rows: Rows, indices: Sequence[int]) -> str:
    """Names the places of the first few rows."""
    more = f" and {len(indices) - _MAX_PLACES} more" if len(indices) > _MAX_PLACES else ""
    return ", ".join(rows.where(index) for index in indices[:_MAX_PLACES]) + more


def _too_many(rows: Rows, samples: TokenStore, long_rows: Ints, limit: Limit) -> DataError:
    shown = "\n  ".join(table(samples, limit.tokens, limit.positions))
    return DataError(
        given=f"{len(long_rows):,} of {len(rows):,} rows of {rows.source} are longer than {limit} "
        f"({first_places(rows, long_rows.tolist())}); of what is learned, a limit keeps:\n  {shown}",
        rule=f"overlong=auto leaves out up to {MAX_OVERLONG_FRACTION * 100:g} % of the rows",
        remedy=(f"set a {limit.key} of the table, or " if limit.can_rise else "")
        + "leave them all out (overlong=drop), or cut their ends (overlong=truncate) or their earliest turns "
        "(overlong=drop_turns)",
    )


def _overlong(rows: Rows, samples: TokenStore, where: Ints, limit: Limit) -> DataError:
    longest = int(samples.lengths[where].max())
    at = first_places(rows, [int(samples.rows[i]) for i in where])
    return DataError(
        given=f"{len(where)} of {len(samples.lengths)} samples of {rows.source} are longer than {limit}; "
        f"the longest has {longest:,} ({at})",
        rule="nothing is cut or left out unless overlong says so",
        remedy=f"{limit.raised(longest, then=', or ')}leave them out (overlong=drop), or cut their ends "
        "(overlong=truncate) or their earliest turns (overlong=drop_turns)",
    )
