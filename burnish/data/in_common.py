"""Rows of held-out data that are also trained: found by their tokens, and told before training.

Preferences have a filter for this (`filters`, contamination), which leaves such rows out of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from burnish.data.dataset import TokenizedDataset
from burnish.data.prompts import Prompts
from burnish.data.rows import Rows
from burnish.data.token_store import DOCUMENT, TokenStore, digest_of

_MAX_PLACES = 3
"""Rows named in a line; the others are counted."""


def rows_in_common(trained: TokenizedDataset, held_out: TokenizedDataset) -> Iterator[str]:
    """Yields a line if rows of the held-out data are trained, or have a prompt that is."""
    whole = set(_digests(trained.samples, trained.samples.lengths))
    same = _rows_among(held_out.samples, held_out.samples.lengths, whole)
    prompts = set(_digests(trained.samples, _prompt_lengths(trained.samples)))
    asked = _rows_among(held_out.samples, _prompt_lengths(held_out.samples), prompts)
    yield from _lines(held_out.origin, held_out.report.usable, sorted(same), sorted(asked - same))


def prompts_in_common(trained: Prompts, held_out: Prompts) -> Iterator[str]:
    """Yields a line if prompts of the held-out data are trained."""
    digests = {digest_of(prompt.tokens.numpy(), prompt.media) for prompt in trained.tokenized}
    same = [prompt.row for prompt in held_out.tokenized if digest_of(prompt.tokens.numpy(), prompt.media) in digests]
    yield from _lines(held_out.preparation.builder.rows, len(held_out.tokenized), same, [])


def _lines(rows: Rows, total: int, same: Sequence[int], asked: Sequence[int]) -> Iterator[str]:
    if same:
        yield f"  {len(same):,} of {total:,} held-out rows are also trained ({_places(rows, same)})"
    if asked:
        yield (
            f"  {len(asked):,} of {total:,} held-out rows have a prompt that is trained with another answer "
            f"({_places(rows, asked)})"
        )


def _places(rows: Rows, indices: Sequence[int]) -> str:
    more = ", ..." if len(indices) > _MAX_PLACES else ""
    return ", ".join(rows.where(index) for index in indices[:_MAX_PLACES]) + more


def _prompt_lengths(samples: TokenStore) -> NDArray[np.int64]:
    """[G] tokens of each prompt; 0 for a document, which has none."""
    return np.where(samples.notes[:, DOCUMENT] > 0, 0, samples.prompt_lengths)


def _digests(samples: TokenStore, lengths: NDArray[np.int64]) -> Iterator[bytes]:
    """Digests of the first tokens of each sample that has some; equal ones only for equal tokens."""
    yield from (digest for _, digest in _numbered(samples, lengths))


def _rows_among(samples: TokenStore, lengths: NDArray[np.int64], digests: set[bytes]) -> set[int]:
    return {int(samples.rows[index]) for index, digest in _numbered(samples, lengths) if digest in digests}


def _numbered(samples: TokenStore, lengths: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
    start = 0
    for index, (size, whole) in enumerate(zip(lengths.tolist(), samples.lengths.tolist(), strict=True)):
        if size:
            yield index, samples.digest(index, start, start + size)
        start += whole
