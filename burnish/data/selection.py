"""The rule for long samples: which parts of all tokens become groups.

Between `cache` (all samples, whatever their length) and `prepare`. Nothing is copied: a group is a place and a length,
so another limit or another rule costs no tokenising. (Only `drop_turns` writes conversations anew, in `maker`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.data.report import Dropped
from burnish.data.rows import Rows
from burnish.data.settings import Overlong
from burnish.data.token_store import DOCUMENT, PLACE, RowError, TokenStore
from burnish.errors import DataError

_SHOWN = 5

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """Groups as places in the tokens of all samples; N sequences (responses with their prompt) in M groups."""

    starts: Ints
    """[N] index of the first token."""
    lengths: Ints
    """[N] tokens."""
    prompt_lengths: Ints
    """[N] tokens of the prompt."""
    rows: Ints
    """[N] the row that each comes from."""
    samples: Ints
    """[N] the sample that each comes from."""
    opens: Ints
    """[M + 1] the first sequence of each group, and N."""
    trained_tokens: int
    """Learned tokens of all groups."""
    dropped: tuple[Dropped, ...]
    """What was left out by the rule."""
    num_cut: int
    """Samples that lost their ends."""

    @property
    def num_groups(self) -> int:
        return len(self.opens) - 1

    @property
    def group_rows(self) -> Ints:
        """[M] the row that each group comes from."""
        return self.rows[self.opens[:-1]]

    @property
    def group_lengths(self) -> Ints:
        """[M] tokens to compute: the prompt once, and every response."""
        firsts = self.opens[:-1]
        if not len(firsts):
            return np.zeros(0, np.int64)
        responses = np.add.reduceat(self.lengths - self.prompt_lengths, firsts)
        return np.asarray(responses + self.prompt_lengths[firsts], np.int64)


def select(rows: Rows, samples: TokenStore, max_length: int, overlong: Overlong) -> tuple[Selection, list[RowError]]:
    """The groups within the limit, and the rows that the rule makes unusable.

    Raises:
        DataError: samples are too long, and the rule is an error.
    """
    lengths = np.array(samples.lengths)
    documents = samples.notes[:, DOCUMENT].astype(np.bool_)
    long = (lengths > max_length) & ~documents
    where = np.flatnonzero(long)
    if len(where) and overlong in ("error", "drop_turns"):
        # drop_turns has shortened all conversations that it can: what is left over is no conversation.
        raise _overlong(rows, samples, where, max_length)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[:-1]
    kept, faults = np.ones(len(lengths), np.bool_), list[RowError]()
    group = np.cumsum(samples.notes[:, PLACE] == 0) - 1
    lost: set[int] = set()
    if overlong == "drop":
        lost = set(group[long].tolist())
    elif overlong == "truncate":
        for i in where:
            lengths[i] = _cut(samples.trainable[starts[i] : starts[i] + max_length])
        for each in dict.fromkeys(group[where].tolist()):
            if fault := _hopeless(samples, starts, lengths, _members(group, each), max_length):
                faults.append(fault)
                lost.add(each)
    kept = ~np.isin(group, list(lost)) if lost else kept
    indices = np.flatnonzero(kept)
    pieces = _pieces(starts[indices], lengths[indices], documents[indices], max_length)
    chosen = indices[pieces.owner]
    prompts = np.where(documents[chosen], 1, samples.prompt_lengths[chosen])
    picked = Selection(
        starts=pieces.starts,
        lengths=pieces.lengths,
        prompt_lengths=prompts,
        rows=samples.rows[chosen].astype(np.int64),
        samples=chosen,
        trained_tokens=_trained(samples, pieces.starts, pieces.lengths, documents[chosen]),
        opens=_opens(samples, chosen, documents),
        dropped=_dropped(rows, samples, group, where, max_length) if overlong == "drop" else (),
        num_cut=int(np.count_nonzero(kept[where])) if overlong == "truncate" else 0,
    )
    return picked, faults


@dataclass(frozen=True, eq=False, slots=True)
class _Pieces:
    starts: Ints
    lengths: Ints
    owner: Ints
    """[N] index of the sample that each piece belongs to."""


def _pieces(starts: Ints, lengths: Ints, documents: NDArray[np.bool_], max_length: int) -> _Pieces:
    """Long documents as consecutive pieces. Each begins with the last token of the one before, its prompt: so every
    token of a document is learned exactly once."""
    step = max_length - 1
    counts = np.where(documents, np.maximum(1, -(-(lengths - 1) // step)), 1)
    owner = np.repeat(np.arange(len(starts)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = starts[owner] + number * step
    sizes = np.where(documents[owner], np.minimum(max_length, lengths[owner] - number * step), lengths[owner])
    return _Pieces(begins, sizes, owner)


def _cut(trainable: NDArray[np.bool_]) -> int:
    """Tokens up to the last learned one; 0: none is learned."""
    learned = np.flatnonzero(trainable)
    return int(learned[-1]) + 1 if len(learned) else 0


def _trained(samples: TokenStore, starts: Ints, lengths: Ints, documents: NDArray[np.bool_]) -> int:
    """Learned tokens, counted a stretch at a time, since a set may be larger than memory."""
    total = 0
    for start, length, document in zip(starts.tolist(), lengths.tolist(), documents.tolist(), strict=True):
        begin = start + document  # the first token of a piece is its prompt
        total += int(np.count_nonzero(samples.trainable[begin : start + length]))
    return total


def _opens(samples: TokenStore, chosen: Ints, documents: NDArray[np.bool_]) -> Ints:
    """Where groups begin among the sequences: with a first response, and with every piece of a document."""
    begins = (samples.notes[chosen, PLACE] == 0) | documents[chosen]
    return np.append(np.flatnonzero(begins), len(chosen)).astype(np.int64)


def _members(group: Ints, each: int) -> Ints:
    """The samples of a group; groups are numbered in their order."""
    first, last = np.searchsorted(group, (each, each + 1))
    return np.arange(first, last)


def _hopeless(samples: TokenStore, starts: Ints, lengths: Ints, members: Ints, max_length: int) -> RowError | None:
    """What is wrong with a group after it was cut; None: nothing."""
    first = int(members[0])
    for i in members:
        if not lengths[i]:
            return _only_prompt(int(samples.rows[i]), int(samples.prompt_lengths[i]), max_length)
    texts = {samples.tokens[starts[i] : starts[i] + lengths[i]].tobytes() for i in members}
    if len(members) > 1 and len(texts) == 1:
        return RowError(
            int(samples.rows[first]),
            f"the answers differ only after {max_length} tokens, where they are cut",
            "a comparison has answers that differ",
            "raise max_length, use overlong=drop, or delete such rows",
        )
    return None


def _dropped(rows: Rows, samples: TokenStore, group: Ints, where: Ints, max_length: int) -> tuple[Dropped, ...]:
    firsts = where[np.unique(group[where], return_index=True)[1]]
    if not len(firsts):
        return ()
    places = tuple(rows.where(int(samples.rows[i])) for i in firsts[:_SHOWN])
    return (Dropped(f"longer than {max_length} tokens", len(firsts), places),)


def _only_prompt(row: int, prompt_length: int, max_length: int) -> RowError:
    return RowError(
        row,
        f"the prompt alone fills {max_length} tokens (it has {prompt_length}), cut to that nothing is left to learn",
        "a sample has its whole prompt and at least one learned token",
        f"raise max_length above {prompt_length}, use overlong=drop, or delete such rows",
    )


def places(rows: Rows, indices: Sequence[int]) -> str:
    """Where the first few rows are, in words."""
    more = f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
    return ", ".join(rows.where(index) for index in indices[:_SHOWN]) + more


def _overlong(rows: Rows, samples: TokenStore, where: Ints, max_length: int) -> DataError:
    longest = int(samples.lengths[where].max())
    at = places(rows, [int(samples.rows[i]) for i in where])
    return DataError(
        given=f"{len(where)} of {len(samples.lengths)} samples of {rows.source} are longer than {max_length} "
        f"tokens; the longest has {longest} ({at})",
        rule="nothing is cut or left out unless it was asked for",
        remedy=f"raise max_length to {longest}, or leave them out (overlong=drop), or cut their ends "
        "(overlong=truncate) or their earliest turns (overlong=drop_turns)",
    )
