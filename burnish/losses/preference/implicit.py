r"""The implicit reward of a response: what a policy says that it is worth, from its log-probabilities alone.

Stands between `responses` and the contrasts. With w_t the weights of tokens (1 if not given), T a response's trained
tokens, |y| = Σ w_t:

=============  =====================================================  =========================================
reward         formula                                                used by
=============  =====================================================  =========================================
LogRatio       β f'(π/π_ref),  log π/π_ref = Σ w_t (log π − log π_ref)  DPO and all losses against a reference
LogProb        β Σ w_t log π,  or per token  β/|y| Σ w_t log π          CPO, TPO; SimPO
PowerProb      β (1 − p^(−α)) / α,  log p = 1/|y| Σ w_t log π           AlphaPO
LogOdds        log p/(1 − p),  log p = 1/|y| Σ w_t log π                ORPO
=============  =====================================================  =========================================

Nothing is detached.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from burnish.losses.per_response import (
    log_ratios,
    mean_logprob,
    num_tokens,
    per_length,
    sum_per_response,
    to_responses,
    total_logprob,
    weights_like,
)
from burnish.losses.preference.divergence import Alpha, Divergence
from burnish.types import Microbatch


class ImplicitReward(Protocol):
    """[S] log-probabilities → [R] rewards."""

    @property
    def needs_reference(self) -> bool:
        """Whether it reads `Microbatch.reference_logprobs`."""

    def __call__(self, logprob: Tensor, microbatch: Microbatch) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class LogRatio:
    """β f'(π/π_ref): DPO, arXiv 2305.18290, equation 5 without its log Z, which no difference sees."""

    beta: float = 0.1
    """β > 0, reward per nat."""
    divergence: Divergence = field(default_factory=Alpha)
    """f; the default is the reverse KL, f' = log."""
    per_token: bool = False
    """Divide by |y| at the end: length-normalised DPO (Tülu 3, arXiv 2411.15124), and IPO as its authors ran it."""
    tail: float = 1.0
    """α of LD-DPO (arXiv 2409.06411): what a token counts beyond the length of the group's shortest
    response. 1: DPO; 0: as if all responses were cut to the same length."""

    @property
    def needs_reference(self) -> bool:
        return True

    def __call__(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        ratios = weights_like(logprob, microbatch) * log_ratios(logprob, microbatch)
        if self.tail != 1:
            ratios = ratios * tail_weights(microbatch, self.tail).to(ratios.dtype)
        value = self.beta * self.divergence(sum_per_response(ratios, microbatch))
        return per_length(value, logprob, microbatch) if self.per_token else value


def tail_weights(microbatch: Microbatch, tail: float) -> Tensor:
    """[S] 1 for the first tokens of every response, as many as the shortest of its group has; `tail` for the others."""
    lengths = num_tokens(microbatch)
    longest = torch.iinfo(torch.int64).max
    common = torch.where(microbatch.group_table >= 0, lengths[microbatch.group_table.clamp(min=0)], longest).amin(dim=1)
    return torch.where(microbatch.response_positions < to_responses(common, microbatch)[microbatch.sequence], 1.0, tail)


@dataclass(frozen=True, slots=True)
class LogProb:
    """β log π, with no reference: CPO (arXiv 2401.08417), and per token SimPO (arXiv 2405.14734, equation 4)."""

    beta: float
    """β > 0, reward per nat."""
    per_token: bool = False
    """The mean over the response's tokens instead of their sum."""

    @property
    def needs_reference(self) -> bool:
        return False

    def __call__(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        return self.beta * (mean_logprob if self.per_token else total_logprob)(logprob, microbatch)


@dataclass(frozen=True, slots=True)
class PowerProb:
    """β (1 − p^(−α)) / α of the mean probability p = π^(1/|y|): AlphaPO (arXiv 2501.03884). α → 0 is SimPO's reward."""

    beta: float
    alpha: float

    @property
    def needs_reference(self) -> bool:
        return False

    def __call__(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        return self.beta * Alpha(self.alpha)(mean_logprob(logprob, microbatch))


@dataclass(frozen=True, slots=True)
class LogOdds:
    """log p/(1 − p) of the mean probability p = π^(1/|y|): ORPO (arXiv 2403.07691, equation 4).

    A response of probability exactly 1 has infinite odds: log p is held at the type's precision below 0.
    """

    @property
    def needs_reference(self) -> bool:
        return False

    def __call__(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        mean = mean_logprob(logprob, microbatch).clamp(max=-torch.finfo(logprob.dtype).eps)
        return mean - torch.log(-torch.expm1(mean))
