r"""The f-divergence that holds the policy near its reference, as a function of the log-ratio l = log π/π_ref.

With KL replaced by Σ π_ref f(π/π_ref) in the objective of RLHF, the implicit reward is β f'(e^l) up to a constant of
the prompt (Wang et al. 2023, "Beyond Reverse KL", arXiv 2309.16240, theorem 1 and table 1), so every loss on a
difference of rewards takes f'(e^l) in the place of l. Constants are chosen so that f'(1) = 0, which no difference
sees.

    α-divergence     (1 − e^(−αl)) / α     limits: α → 0 reverse KL (l itself), α → 1 forward KL (1 − e^(−l))
    Jensen–Shannon   log(2 e^l / (1 + e^l))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LARGEST_EXPONENT = 80.0
"""Where e^(−αl) is held: just inside float32. Beyond it the gradient is 0; a policy is there if a response has become
e^(80/α) times less likely than under the reference."""


class Divergence(Protocol):
    """[R] nats → [R], f' of the ratio of each response."""

    def __call__(self, log_ratio: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Alpha:
    """The α-divergences, with both KL divergences as their ends."""

    alpha: float = 0.0
    """In [0, 1]; 0: reverse KL, DPO's own; 1: forward KL."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        if self.alpha == 0:
            return log_ratio
        return -torch.expm1((-self.alpha * log_ratio).clamp(max=LARGEST_EXPONENT)) / self.alpha


@dataclass(frozen=True, slots=True)
class JensenShannon:
    """Bounded above by log 2: no response gains from being made ever more likely."""

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return math.log(2) + logsigmoid(log_ratio)
