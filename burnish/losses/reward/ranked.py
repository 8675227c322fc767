r"""The loss of a reward model on n ranked responses, best first: the likelihood of the whole order, Plackett–Luce.

    L = 1/G Σ_g −Σ_k log ( e^{r_k} / Σ_{j ≥ k} e^{r_j} )

The same ranking as in `losses.preference.listwise`, of values in the place of implicit rewards (Plackett 1975; for
reward models Ouyang et al. 2022, arXiv 2203.02155, take all pairs instead). Limit: with n = 2 it is `BradleyTerry`. A
group of one costs 0. Nothing is detached. Denominator: groups.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import by_group
from burnish.losses.preference.listwise import PlackettLuce, order_metrics
from burnish.losses.reward.values import value_of_each
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Score, TokenScores


@dataclass(frozen=True, slots=True)
class RankedValues(LossDefaults):
    """See the module."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.VALUE]

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        table = by_group(value_of_each(scores, microbatch), microbatch, 0.0)
        present = microbatch.group_table >= 0
        given = by_group(microbatch.sequence_reward.to(table.dtype), microbatch, 0.0)
        costs = PlackettLuce()(table, given, present)
        return LossOutput({"preference": LossTerm(costs.sum(), Denominator.GROUPS)}, order_metrics(table, present))
