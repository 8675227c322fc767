"""The published losses that need no reference, each as the record of its options, and the loss that comes of them.

Formulas, sources and limits stand with the parts that they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from burnish.losses.base import Loss
from burnish.losses.preference.best import Best
from burnish.losses.preference.implicit import ImplicitReward, LogOdds, LogProb, PowerProb
from burnish.losses.preference.logistic import Logistic, conservative
from burnish.losses.preference.options import Data, NotNegative, Number, Positive, WrongLabels
from burnish.losses.preference.pairs import Pairs
from burnish.losses.preference.weighted_sum import Weighted, WeightedSum


@dataclass(frozen=True, kw_only=True)
class WithoutReference:
    """Pairs whose rewards are the policy's log-probabilities. Not a loss itself."""

    reference: ClassVar[bool] = False
    data: ClassVar[Data] = Data.PAIR
    measured: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class SimPo(WithoutReference):
    """SimPO, arXiv 2405.14734."""

    beta: Positive = 2.0
    margin: NotNegative = 1.0
    """γ of the paper, in the unit of rewards."""
    label_smoothing: WrongLabels = 0.0

    def _reward(self) -> ImplicitReward:
        return LogProb(self.beta, per_token=True)

    def loss(self) -> Loss:
        return Pairs(self._reward(), conservative(self.label_smoothing, self.margin))


@dataclass(frozen=True, kw_only=True)
class AlphaPo(SimPo):
    """AlphaPO, arXiv 2501.03884; alpha = 0 is SimPO."""

    alpha: Number = 0.25

    def _reward(self) -> ImplicitReward:
        return PowerProb(self.beta, self.alpha)


@dataclass(frozen=True, kw_only=True)
class Cpo(WithoutReference):
    """CPO, arXiv 2401.08417: a contrast and the likelihood of the chosen response."""

    beta: Positive = 0.1
    nll_coef: NotNegative = 1.0
    label_smoothing: WrongLabels = 0.0

    def loss(self) -> Loss:
        contrast = Pairs(LogProb(self.beta), conservative(self.label_smoothing))
        return _with_likelihood(contrast, self.nll_coef, Best())


@dataclass(frozen=True, kw_only=True)
class Orpo(WithoutReference):
    """ORPO, arXiv 2403.07691: the likelihood of the chosen response and the odds ratio."""

    weight: Positive = 0.1
    """λ of the paper."""

    def loss(self) -> Loss:
        odds = Weighted("odds", Pairs(LogOdds(), Logistic()), self.weight)
        return WeightedSum((Weighted("likelihood", Best(per="response"), 1.0), odds))


@dataclass(frozen=True, kw_only=True)
class Tpo(WithoutReference):
    """TPO, arXiv 2405.16681: the likelihood of a gold response, and a contrast of two others."""

    data: ClassVar[Data] = Data.TRIPLE

    beta: Positive = 0.01
    nll_coef: NotNegative = 1.0
    label_smoothing: WrongLabels = 0.0

    def loss(self) -> Loss:
        contrast = Pairs(LogProb(self.beta), conservative(self.label_smoothing), at=(1, 2))
        return _with_likelihood(contrast, self.nll_coef, Best())


@dataclass(frozen=True, kw_only=True)
class TpoL(Tpo):
    """TPO-L, arXiv 2405.16681: length-normalised, with a target margin."""

    beta: Positive = 2.0
    margin: NotNegative = 1.0

    def loss(self) -> Loss:
        reward = LogProb(self.beta, per_token=True)
        contrast = Pairs(reward, conservative(self.label_smoothing, self.margin), at=(1, 2))
        return _with_likelihood(contrast, self.nll_coef, Best())


@dataclass(frozen=True, kw_only=True)
class Sft:
    """The likelihood of the best response alone; a part of weighted sums."""

    reference: ClassVar[bool] = False
    data: ClassVar[Data] = Data.ANY
    measured: ClassVar[bool] = False

    per: Literal["token", "response"] = "token"

    def loss(self) -> Loss:
        return Best(self.per)


def _with_likelihood(contrast: Loss, weight: float, best: Best) -> Loss:
    """A weight of 0 leaves the term out, so that nothing is reported of it."""
    if not weight:
        return contrast
    return WeightedSum((Weighted("preference", contrast, 1.0), Weighted("likelihood", best, weight)))
