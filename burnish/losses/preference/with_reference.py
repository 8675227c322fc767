"""The published losses that need a reference, each as the record of its options. Needs no torch.

`build` makes the losses of them; formulas, sources and limits stand with the parts that they are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from burnish.losses.preference.options import (
    DataNeeds,
    DivergenceName,
    NotNegative,
    Number,
    Positive,
    Share,
    Within,
    WrongLabels,
)


@dataclass(frozen=True, kw_only=True)
class AgainstReference:
    """Pairs whose rewards are β log-ratios. Not a loss itself."""

    reference: ClassVar[bool] = True
    data: ClassVar[DataNeeds] = DataNeeds.PAIR
    measured: ClassVar[bool] = False

    beta: Positive = 0.1


@dataclass(frozen=True, kw_only=True)
class OfDifference(AgainstReference):
    """Pairs of which only the difference of rewards counts: there, other divergences take the place of the KL. Not a
    loss itself."""

    divergence: DivergenceName = "reverse_kl"
    divergence_alpha: Share | None = None
    """Only with divergence "alpha", and needed there."""
    ld_alpha: Share = 1.0
    """LD-DPO: what tokens beyond the shorter response's length count."""
    wpo: bool = False
    """WPO: pairs count by how likely the policy would have written them."""


class Dpo(OfDifference):
    """DPO, arXiv 2305.18290."""


class DpoNorm(OfDifference):
    """Length-normalised DPO, arXiv 2411.15124, section 5."""


@dataclass(frozen=True, kw_only=True)
class ConservativeDpo(OfDifference):
    """cDPO, Mitchell 2023."""

    label_smoothing: WrongLabels = 0.1


@dataclass(frozen=True, kw_only=True)
class RobustDpo(OfDifference):
    """Robust DPO, arXiv 2403.00409."""

    label_smoothing: WrongLabels = 0.1


class HingeDpo(OfDifference):
    """SLiC's hinge on log-ratios, arXiv 2305.10425 and 2309.06657."""


@dataclass(frozen=True, kw_only=True)
class IpoOptions(OfDifference):
    """IPO, arXiv 2310.12036."""

    per_token: bool = True
    """Mean log-ratios, with which the paper's results were made; False: sums, as its equations are written."""


@dataclass(frozen=True, kw_only=True)
class ExoOptions(OfDifference):
    """EXO for pairs, arXiv 2402.00856."""

    label_smoothing: Annotated[float, Within(above=0, at_most=0.5)] = 1e-3


@dataclass(frozen=True, kw_only=True)
class DiscoPopOptions(OfDifference):
    """DiscoPOP, arXiv 2406.08414."""

    temperature: Annotated[float, Within(above=0, below=1)] = 0.05


@dataclass(frozen=True, kw_only=True)
class OfEach(AgainstReference):
    """Pairs in which each reward counts by itself. Not a loss itself."""

    wpo: bool = False
    """As in OfDifference."""


class NcaOptions(OfEach):
    """NCA for pairs, arXiv 2402.05369."""


class BcoOptions(OfEach):
    """BCO for pairs without a shift of rewards, arXiv 2404.04656."""


class SppoOptions(OfEach):
    """SPPO with hard win rates, arXiv 2405.00675."""


class ApoZeroOptions(OfEach):
    """APO-zero, arXiv 2408.06266."""


class ApoDownOptions(OfEach):
    """APO-down, arXiv 2408.06266."""


class ShiftedBcoOptions(AgainstReference):
    """BCO for pairs, rewards shifted by their mean over the step, arXiv 2404.04656."""


@dataclass(frozen=True, kw_only=True)
class AotOptions(AgainstReference):
    """AOT on pairs, arXiv 2406.05882."""

    label_smoothing: WrongLabels = 0.0


class AotUnpairedOptions(AotOptions):
    """AOT on chosen against rejected responses, whichever their prompts, arXiv 2406.05882."""


@dataclass(frozen=True, kw_only=True)
class BetaDpo(AgainstReference):
    """β-DPO, arXiv 2407.08639."""

    alpha: NotNegative = 0.6
    m0: Number = 0.0


@dataclass(frozen=True, kw_only=True)
class KtoOptions(AgainstReference):
    """KTO, arXiv 2402.01306."""

    data: ClassVar[DataNeeds] = DataNeeds.VERDICT
    measured: ClassVar[bool] = True

    desirable_weight: Positive = 1.0
    undesirable_weight: Positive = 1.0


class ApoZeroUnpaired(KtoOptions):
    """APO-zero on single verdicts, arXiv 2408.06266: KTO with z = 0."""

    measured: ClassVar[bool] = False


class PlackettLuceOptions(AgainstReference):
    """DPO of n ranked responses, arXiv 2305.18290, appendix A.3."""

    data: ClassVar[DataNeeds] = DataNeeds.RANKING


class Lipo(AgainstReference):
    """LiPO-λ, arXiv 2402.01878."""

    data: ClassVar[DataNeeds] = DataNeeds.SCORED
