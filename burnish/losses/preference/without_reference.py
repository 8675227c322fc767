"""The published losses that need no reference, each as the record of its options. Needs no torch.

`build` makes the losses of them; formulas, sources and limits stand with the parts that they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from burnish.losses.preference.options import DataNeeds, NotNegative, Number, Positive, WrongLabels


@dataclass(frozen=True, kw_only=True)
class WithoutReference:
    """Pairs whose rewards are the policy's log-probabilities. Not a loss itself."""

    reference: ClassVar[bool] = False
    data: ClassVar[DataNeeds] = DataNeeds.PAIR
    measured: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class SimPo(WithoutReference):
    """SimPO, arXiv 2405.14734."""

    beta: Positive = 2.0
    margin: NotNegative = 1.0
    """γ of the paper, in the unit of rewards."""
    label_smoothing: WrongLabels = 0.0


@dataclass(frozen=True, kw_only=True)
class AlphaPo(SimPo):
    """AlphaPO, arXiv 2501.03884; alpha = 0 is SimPO."""

    alpha: Number = 0.25


@dataclass(frozen=True, kw_only=True)
class Cpo(WithoutReference):
    """CPO, arXiv 2401.08417: a contrast and the likelihood of the chosen response."""

    beta: Positive = 0.1
    nll_coef: NotNegative = 1.0
    label_smoothing: WrongLabels = 0.0


@dataclass(frozen=True, kw_only=True)
class Orpo(WithoutReference):
    """ORPO, arXiv 2403.07691: the likelihood of the chosen response and the odds ratio."""

    weight: Positive = 0.1
    """λ of the paper."""


@dataclass(frozen=True, kw_only=True)
class Tpo(WithoutReference):
    """TPO, arXiv 2405.16681: the likelihood of a gold response, and a contrast of two others."""

    data: ClassVar[DataNeeds] = DataNeeds.TRIPLE

    beta: Positive = 0.01
    nll_coef: NotNegative = 1.0
    label_smoothing: WrongLabels = 0.0


@dataclass(frozen=True, kw_only=True)
class TpoL(Tpo):
    """TPO-L, arXiv 2405.16681: length-normalised, with a target margin."""

    beta: Positive = 2.0
    margin: NotNegative = 1.0


@dataclass(frozen=True, kw_only=True)
class Sft:
    """The likelihood of the best response alone; a part of weighted sums."""

    reference: ClassVar[bool] = False
    data: ClassVar[DataNeeds] = DataNeeds.ANY
    measured: ClassVar[bool] = False

    per: Literal["token", "response"] = "token"
