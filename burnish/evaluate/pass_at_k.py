"""pass@k: the probability that at least one of k responses to a prompt is right. Pure.

Of n responses c are right; the share of the subsets of k that contain a right one is the unbiased estimate (Chen et al.
2021, arXiv 2107.03374, equation 1). The estimate 1 − (1 − c/n)^k is too low.
"""

from __future__ import annotations

from math import comb

from burnish.evaluate.preference_eval import Proportion, wilson_interval


def pass_at_k(k: int, right: int, written: int) -> float:
    """1 − C(n − c, k) / C(n, k). Example: ``pass_at_k(1, 3, 8)`` is 3/8.

    Args:
        k: number of responses of which at least one is right, at least 1.
        right: c, number of right responses.
        written: n, number of responses, at least k.
    """
    assert 1 <= k <= written, f"of {written} responses, {k} cannot be drawn"
    assert 0 <= right <= written, "right responses are among all responses"
    return 1.0 - comb(written - right, k) / comb(written, k)


def mean_pass_at_k(k: int, counts: list[tuple[int, int]]) -> Proportion | None:
    """Mean pass@k over prompts, with a 95 % interval for other prompts of the same kind. Wilson's interval is wide
    enough for estimates between 0 and 1, since their variance is at most that of a proportion.

    Args:
        k: as in `pass_at_k`.
        counts: right and all responses of each prompt; prompts with fewer than k responses are left out.

    Returns:
        None: no prompt has k responses.
    """
    passes = [pass_at_k(k, right, written) for right, written in counts if written >= k]
    return wilson_interval(sum(passes), len(passes)) if passes else None
