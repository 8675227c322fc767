"""pass@k: how likely at least one of k responses to a prompt is right. Pure.

Beside `accuracy`, which asks once. Of n responses c are right; the share of the subsets of k that have a right one is
the unbiased estimate (Chen et al. 2021, arXiv 2107.03374, equation 1). 1 − (1 − c/n)^k would be too low.
"""

from __future__ import annotations

from math import comb

from burnish.evaluate.preference_eval import Proportion, wilson_interval


def pass_at_k(k: int, right: int, written: int) -> float:
    """1 − C(n − c, k) / C(n, k). Example: ``pass_at_k(1, 3, 8)`` is 3/8.

    Args:
        k: responses of which one is to be right, at least 1.
        right: c, how many of those written are.
        written: n, at least k.
    """
    assert 1 <= k <= written, f"of {written} responses, {k} cannot be drawn"
    assert 0 <= right <= written, "right responses were written"
    return 1.0 - comb(written - right, k) / comb(written, k)


def mean_pass_at_k(k: int, counts: list[tuple[int, int]]) -> Proportion | None:
    """Over prompts, with an interval of 95 % for other prompts of the same kind: Wilson's, which is wide enough for
    estimates between 0 and 1 since none varies more than a share does.

    Args:
        k: as in `pass_at_k`.
        counts: right and written of each prompt; those with fewer than k are left out.

    Returns:
        None: no prompt has so many.
    """
    passes = [pass_at_k(k, right, written) for right, written in counts if written >= k]
    return wilson_interval(sum(passes), len(passes)) if passes else None
