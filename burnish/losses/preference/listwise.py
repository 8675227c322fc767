r"""Losses of n ranked responses, best first. With rewards s_1 … s_n of one group:

    Plackett–Luce   −Σ_k log ( e^{s_k} / Σ_{j ≥ k} e^{s_j} )     DPO, arXiv 2305.18290, appendix A.3
    LiPO-λ          Σ_{ψ_i > ψ_j} Δ_ij log(1 + e^{−(s_i − s_j)}) Liu et al. 2024, arXiv 2402.01878
                    Δ_ij = |G_i − G_j| · |1/D_i − 1/D_j|,  G = 2^ψ − 1,  D = log(1 + rank of s)

ψ is `Response.reward`, the score that the ranking came from; the rank is that of the present rewards, highest first
(ties in the given order), and Δ is detached. Limits: with n = 2 Plackett–Luce is DPO, and LiPO-λ is DPO times Δ
(0.5325 for scores 1 and 0). A group with one response costs 0. Denominator: groups.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import by_group, total_logprob
from burnish.losses.preference.implicit import ImplicitReward
from burnish.losses.preference.metrics import distance_metrics, is_above
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Score, TokenScores


class Ranking(Protocol):
    """Rewards [G, K], best first, scores [G, K] and where there is a response [G, K] bool → [G] costs."""

    def __call__(self, rewards: Tensor, scores: Tensor, present: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class PlackettLuce:
    """The likelihood of the whole order, drawn from the best to the worst. Looks at the order, not at the scores."""

    def __call__(self, rewards: Tensor, scores: Tensor, present: Tensor) -> Tensor:
        size = rewards.shape[1]
        still = torch.ones(
            size, size, dtype=torch.bool, device=rewards.device
        ).triu()  # [k, j]: j is not drawn before k
        left = torch.where(still & present[:, None, :], rewards[:, None, :], -math.inf).logsumexp(dim=2)
        return torch.where(present, left - rewards, 0.0).sum(dim=1)


@dataclass(frozen=True, slots=True)
class LipoLambda:
    """Pairs weighed by what exchanging them would change in the discounted gain."""

    def __call__(self, rewards: Tensor, scores: Tensor, present: Tensor) -> Tensor:
        better = (scores[:, :, None] > scores[:, None, :]) & present[:, :, None] & present[:, None, :]
        torch._assert_async(~(present & scores.isnan()).any(), "every ranked response has a score")
        weight = self._weights(rewards.detach(), scores, present)
        cost = softplus(rewards[:, None, :] - rewards[:, :, None])
        return torch.where(better, weight * cost, 0.0).sum(dim=(1, 2))

    def _weights(self, rewards: Tensor, scores: Tensor, present: Tensor) -> Tensor:
        """[G, K, K] Δ."""
        order = torch.where(present, rewards, -math.inf).argsort(dim=1, descending=True, stable=True)
        ranks = order.argsort(dim=1).to(rewards.dtype) + 1
        gain, discount = torch.exp2(scores) - 1, 1 / torch.log1p(ranks)
        return (gain[:, :, None] - gain[:, None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()


@dataclass(frozen=True, slots=True)
class Listwise(LossDefaults):
    """The mean over groups of what a ranking costs."""

    reward: ImplicitReward
    ranking: Ranking

    @property
    def needs(self) -> Collection[Score]:
        return [Score.LOGPROB]

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        logprob, present = scores.of(Score.LOGPROB), microbatch.group_table >= 0
        values = self.reward(logprob, microbatch)
        table = by_group(values, microbatch, 0.0)
        costs = self.ranking(table, by_group(microbatch.sequence_reward.to(table.dtype), microbatch, 0.0), present)
        metrics = {
            **order_metrics(table, present),
            "logprob_chosen": LossTerm(
                by_group(total_logprob(logprob.detach(), microbatch), microbatch, 0.0)[:, 0].sum(), Denominator.GROUPS
            ),
        }
        distance = distance_metrics(logprob, microbatch) if self.reward.needs_reference else {}
        return LossOutput({"preference": LossTerm(costs.sum(), Denominator.GROUPS)}, {**metrics, **distance})


def order_metrics(table: Tensor, present: Tensor) -> Mapping[str, LossTerm]:
    """What is reported of the rewards [G, K] of rankings."""
    sums = {
        "reward_margin": _first_minus_last(table.detach(), present),
        "pair_accuracy": _share_in_order(table.detach(), present),
    }
    return {name: LossTerm(values.sum(), Denominator.GROUPS) for name, values in sums.items()}


def _first_minus_last(table: Tensor, present: Tensor) -> Tensor:
    """[G] reward of the best response minus that of the worst."""
    last = present.sum(dim=1, keepdim=True) - 1
    return table[:, 0] - table.gather(1, last)[:, 0]


def _share_in_order(table: Tensor, present: Tensor) -> Tensor:
    """[G] share of a group's pairs whose rewards are in the given order, ties half; 0 for one response."""
    size = table.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool, device=table.device).triu(1)
    pairs = earlier & present[:, :, None] & present[:, None, :]
    right = torch.where(pairs, is_above(table[:, :, None], table[:, None, :]), 0.0).sum(dim=(1, 2))
    return right / pairs.sum(dim=(1, 2)).clamp(min=1)
