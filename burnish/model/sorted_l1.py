"""Sorted L1 distance of two next-token distributions over different vocabularies (ULD), with its gradient.

Used for distillation across tokenizers, at the starts of groups of tokens (`data.byte_groups.starts`), for chunks of
rows: only the given chunk has vocabulary axes, and no autograd graph is made.

Boizard et al. 2024, "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs", arXiv
2402.12030: the optimal transport of p_s to p_t, if every token costs the same to every other one. It compares only how
probability is spread, and never which token has it:

- 0 for distributions that are permutations of each other, whatever the texts of their tokens;
- for one common vocabulary it is not the plain Σ |p_s − p_t| but at most that, and equal where both rank the tokens
  alike. Tokens that two vocabularies have in common are not matched.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sorted_l1(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """D = Σ_i |sort(p_s)_i − sort(p_t)_i|, both in descending order, the shorter one with zeros after its end.

    With p = p_s = softmax(y / T), the gradient of the student's logits y is dD/dy = p · (slope − Σ p · slope) / T. D is
    in [0, 2], without a unit; the teacher is constant.

    Example: p_s = (0.5, 0.2, 0.3) and p_t = (0.4, 0.6) give the value 0.1 + 0.1 + 0.2 and the slope (−1, 1, −1).

    Args:
        student: [m, V_s] probabilities.
        teacher: [m, V_t] probabilities, of the same type.

    Returns:
        [m] value and [m, V_s] slope dD/dp_s: the sign of the difference at the rank of each token, 0 where the values
        are equal (as autograd has it). Equally probable tokens of the student rank in the order of their ids; where
        the teacher's values at these ranks differ, D has a kink, and the slope is one of its generalized gradients.
    """
    assert student.dtype == teacher.dtype, f"both are of one type: {student.dtype} and {teacher.dtype}"
    assert len(student) == len(teacher), f"both have the same rows: {len(student)} and {len(teacher)}"
    difference, order = student.sort(dim=1, descending=True, stable=True)
    target = teacher.sort(dim=1, descending=True).values
    both = min(student.shape[1], teacher.shape[1])
    difference[:, :both] -= target[:, :both]
    value = difference.abs().sum(dim=1) + target[:, both:].sum(dim=1)
    return value, torch.empty_like(student).scatter_(1, order, difference.sign_())
