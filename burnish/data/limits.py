"""Maximum lengths: the one in force with its origin, and what each keeps of a data set, and costs.

Used by `profile`, and by `dataset`, `selection` and `prompts` in messages about rows that are too long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.data.shared_prefixes import shared_prefixes
from burnish.data.token_store import TokenStore


@dataclass(frozen=True, slots=True)
class Limit:
    """Maximum length of a sequence, and the setting or property of the model that it comes from.

    Example: ``str(Limit(512, positions=2048)) == "512 tokens (max_length)"``.
    """

    tokens: int
    positions: int | None = None
    """The model's positions, above which no limit can be set; None: they are not known."""
    key: str = "max_length"
    """Setting that the limit comes from, unless it is the model's positions."""

    @property
    def can_rise(self) -> bool:
        """False: the limit is the model's own."""
        return self.positions is None or self.tokens < self.positions

    @property
    def origin(self) -> str:
        """Where the limit comes from: "max_length", or "the model's positions"."""
        return self.key if self.can_rise else "the model's positions"

    def __str__(self) -> str:
        return f"{self.tokens:,} tokens ({self.origin})"

    def raised(self, longest: int | None = None, *, then: str = ", ") -> str:
        """Beginning of a remedy that raises the limit as far as it is of use; "" if it cannot be raised.

        Args:
            longest: tokens of the longest sequence; None: it is not known.
            then: end of the clause.
        """
        if not self.can_rise or (longest is not None and longest <= self.tokens):
            return ""
        if longest is None:
            return f"raise {self.key}{then}"
        most = highest(longest, self.positions)
        return f"raise {self.key} to {most:,}{'' if most == longest else ' (the model holds no more)'}{then}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Effect of one max_length."""

    max_length: int
    longer: int
    """Number of samples that are longer: dropped, truncated, or an error, by `overlong`."""
    computed: float
    """Share of the tokens to compute that are left if long samples are truncated; shared ones count once."""
    learned: float
    """Share of the learned tokens that stay if long samples are truncated."""
    learned_if_dropped: float
    """Share of the learned tokens that stay if long samples are dropped."""
    attention: float
    """Cost of attention (pairs of tokens) relative to no limit."""


def starts(samples: TokenStore) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(samples.lengths)])[:-1]


def shared_tokens(samples: TokenStore) -> NDArray[np.int64]:
    """[samples] tokens of each sample that are computed for the one before it: it has the same prompt, and may have
    more."""
    return shared_prefixes(samples, np.arange(len(samples.lengths)), np.array(samples.lengths)).shared


def learned_tokens(samples: TokenStore) -> NDArray[np.int64]:
    """[samples] learned tokens of each sample."""
    return np.array(
        [
            np.count_nonzero(samples.trainable[start : start + length])
            for start, length in zip(starts(samples).tolist(), samples.lengths.tolist(), strict=True)
        ],
        np.int64,
    )


def limits(samples: TokenStore, max_positions: int) -> list[int]:
    """Candidate limits up to max_positions: powers of two and half-way steps from about the median, and the maximum."""
    longest = int(samples.lengths.max())
    lowest = max(5, int(np.log2(np.median(samples.lengths))))
    powers = [2**power for power in range(lowest, longest.bit_length() + 1)]
    steps = sorted({*powers, *(3 * power // 2 for power in powers)})
    return sorted({min(limit, max_positions) for limit in (*(step for step in steps if step < longest), longest)})


def candidate(samples: TokenStore, learned: NDArray[np.int64], shared: NDArray[np.int64], limit: int) -> Candidate:
    """Effect of a limit, from the learned and shared tokens of each sample."""
    lengths = np.array(samples.lengths)
    long = np.flatnonzero(lengths > limit)
    firsts = starts(samples)
    num_lost = sum(int(np.count_nonzero(samples.trainable[firsts[i] + limit : firsts[i] + lengths[i]])) for i in long)
    cut = np.minimum(lengths, limit)
    cut_shared = np.minimum(shared, limit)
    total = int(learned.sum())
    return Candidate(
        max_length=limit,
        longer=len(long),
        computed=float((cut - cut_shared).sum() / (lengths - shared).sum()),
        learned=(total - num_lost) / total,
        learned_if_dropped=(total - int(learned[long].sum())) / total,
        attention=_num_pairs(cut, cut_shared) / _num_pairs(lengths, shared),
    )


def _num_pairs(lengths: NDArray[np.int64], shared: NDArray[np.int64]) -> float:
    """Twice the pairs of query and key, nearly: the square of each sequence, without that of its shared beginning."""
    return float((lengths.astype(np.float64) ** 2 - shared.astype(np.float64) ** 2).sum())


def highest(longest: int, max_positions: int | None) -> int:
    """Returns the highest max_length of use: that of the longest sample, or of the model."""
    return longest if max_positions is None else min(longest, max_positions)


def table(samples: TokenStore, max_length: int, max_positions: int | None = None) -> Iterator[str]:
    """Yields the lines of a table: for each limit from max_length on, up to the model's positions, what it keeps and
    costs."""
    learned, shared = learned_tokens(samples), shared_tokens(samples)
    larger = limits(samples, highest(int(samples.lengths.max()), max_positions))
    larger = [limit for limit in larger if limit > max_length]
    chosen = sorted({max_length, *larger})
    yield f"{'max_length':>10} {'longer':>9} {'cut keeps':>10} {'drop keeps':>11} {'computed':>9}"
    for limit in chosen:
        found = candidate(samples, learned, shared, limit)
        yield (
            f"{limit:>10,} {found.longer:>9,} {found.learned:>10.1%} {found.learned_if_dropped:>11.1%} "
            f"{found.computed:>9.1%}"
        )


def prompt_table(lengths: Sequence[int], room: int, max_length: int, max_positions: int | None = None) -> Iterator[str]:
    """Yields the lines of a table: for each limit of prompt and response, up to the model's positions, the share of the
    prompts that it keeps."""
    sizes = np.array(lengths) + room
    powers = (2**power for power in range(max_length.bit_length(), int(sizes.max()).bit_length()))
    yield f"{'max_length':>10} {'longer':>9} {'keeps':>7}"
    most = highest(int(sizes.max()), max_positions)
    for limit in sorted({max_length, *(min(power, most) for power in powers), most}):
        if limit < max_length:
            continue
        longer = int(np.count_nonzero(sizes > limit))
        yield f"{limit:>10,} {longer:>9,} {1 - longer / len(sizes):>7.1%}"
