"""Builds preference losses from their options: `preference_loss("dpo", beta=0.2)`, and weighted sums of several.

`registry` checks names and options. Pure: equal options give equal losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch

from burnish.losses.base import Loss
from burnish.losses.preference import with_reference as of
from burnish.losses.preference import without_reference as alone
from burnish.losses.preference.absolute import ApoDown, ApoZero, Bco, Nca, ShiftedBco
from burnish.losses.preference.chosen_nll import ChosenNll
from burnish.losses.preference.contrast import Contrast
from burnish.losses.preference.discopop import DiscoPop
from burnish.losses.preference.divergence import Alpha, Divergence, JensenShannon
from burnish.losses.preference.dynamic_beta import DynamicBeta
from burnish.losses.preference.exo import Exo
from burnish.losses.preference.hinge import Hinge
from burnish.losses.preference.implicit import LogOdds, LogProb, LogRatio, PowerProb
from burnish.losses.preference.kto import Kto
from burnish.losses.preference.listwise import LipoLambda, Listwise, PlackettLuce
from burnish.losses.preference.logistic import Logistic, conservative, robust
from burnish.losses.preference.options import DataNeeds, Options
from burnish.losses.preference.pairs import Pairs
from burnish.losses.preference.registry import Chosen, chosen_loss, chosen_sum
from burnish.losses.preference.squared import Ipo, Sppo
from burnish.losses.preference.transport import AotPaired, Transport
from burnish.losses.weighted_sum import Weighted, WeightedSum


@dataclass(frozen=True, slots=True)
class Preference:
    """A loss, with the data that it needs."""

    loss: Loss
    reference: bool
    """Groups need `reference_logprobs`."""
    data: DataNeeds
    measured: bool
    """Each step needs mismatched pairs, which are only scored."""


def preference_loss(name: str, **written: object) -> Preference:
    """A loss by its name; see `registry.chosen_loss`."""
    return _preference(chosen_loss(name, **written))


def weighted_losses(parts: Sequence[tuple[str, float, Mapping[str, object]]]) -> Preference:
    """A weighted sum of different losses, as (name, weight, options); see `registry.chosen_sum`."""
    return _preference(chosen_sum(parts))


def _preference(chosen: Chosen) -> Preference:
    return Preference(built(chosen), chosen.reference, chosen.data, chosen.measured)


def built(chosen: Chosen) -> Loss:
    """The loss of a choice of the registry."""
    if isinstance(chosen.options, tuple):
        return WeightedSum(tuple(Weighted(part.name, loss_of(part.options), part.weight) for part in chosen.options))
    return loss_of(chosen.options)


@singledispatch
def loss_of(options: Options) -> Loss:
    """The loss with these options."""
    raise AssertionError(f"every class of options has a loss, and {type(options).__name__} has none")


def _of_difference(options: of.OfDifference, contrast: Contrast, *, per_token: bool = False) -> Pairs:
    reward = LogRatio(options.beta, _divergence(options), per_token, options.ld_alpha)
    return Pairs(reward, contrast, options.wpo)


def _divergence(options: of.OfDifference) -> Divergence:
    if options.divergence == "js":
        return JensenShannon()
    ends = {"reverse_kl": 0.0, "forward_kl": 1.0, "alpha": options.divergence_alpha}
    alpha = ends[options.divergence]
    assert alpha is not None, "divergence alpha comes with divergence_alpha"
    return Alpha(alpha)


def _of_each(options: of.OfEach, contrast: Contrast) -> Pairs:
    return Pairs(LogRatio(options.beta), contrast, options.wpo)


def _with_likelihood(contrast: Loss, weight: float) -> Loss:
    """A weight of 0 leaves the term out, so that it is not reported."""
    if not weight:
        return contrast
    return WeightedSum((Weighted("preference", contrast, 1.0), Weighted("likelihood", ChosenNll(), weight)))


@loss_of.register
def _(options: of.Dpo) -> Loss:
    return _of_difference(options, Logistic())


@loss_of.register
def _(options: of.DpoNorm) -> Loss:
    return _of_difference(options, Logistic(), per_token=True)


@loss_of.register
def _(options: of.ConservativeDpo) -> Loss:
    return _of_difference(options, conservative(options.label_smoothing))


@loss_of.register
def _(options: of.RobustDpo) -> Loss:
    return _of_difference(options, robust(options.label_smoothing))


@loss_of.register
def _(options: of.HingeDpo) -> Loss:
    return _of_difference(options, Hinge())


@loss_of.register
def _(options: of.IpoOptions) -> Loss:
    return _of_difference(options, Ipo(options.beta), per_token=options.per_token)


@loss_of.register
def _(options: of.ExoOptions) -> Loss:
    return _of_difference(options, Exo(options.label_smoothing))


@loss_of.register
def _(options: of.DiscoPopOptions) -> Loss:
    return _of_difference(options, DiscoPop(options.temperature))


@loss_of.register
def _(options: of.NcaOptions) -> Loss:
    return _of_each(options, Nca())


@loss_of.register
def _(options: of.BcoOptions) -> Loss:
    return _of_each(options, Bco())


@loss_of.register
def _(options: of.SppoOptions) -> Loss:
    return _of_each(options, Sppo(options.beta))


@loss_of.register
def _(options: of.ApoZeroOptions) -> Loss:
    return _of_each(options, ApoZero())


@loss_of.register
def _(options: of.ApoDownOptions) -> Loss:
    return _of_each(options, ApoDown())


@loss_of.register
def _(options: of.ShiftedBcoOptions) -> Loss:
    return Pairs(LogRatio(options.beta), ShiftedBco())


@loss_of.register
def _(options: of.AotOptions) -> Loss:
    return AotPaired(options.beta, Transport(conservative(options.label_smoothing)))


@loss_of.register
def _(options: of.AotUnpairedOptions) -> Loss:
    return Pairs(LogRatio(options.beta), Transport(conservative(options.label_smoothing)))


@loss_of.register
def _(options: of.BetaDpo) -> Loss:
    return Pairs(LogRatio(options.beta), DynamicBeta(options.alpha, options.m0))


@loss_of.register
def _(options: of.KtoOptions) -> Loss:
    return Kto(options.beta, options.desirable_weight, options.undesirable_weight)


@loss_of.register
def _(options: of.PlackettLuceOptions) -> Loss:
    return Listwise(LogRatio(options.beta), PlackettLuce())


@loss_of.register
def _(options: of.Lipo) -> Loss:
    return Listwise(LogRatio(options.beta), LipoLambda())


@loss_of.register
def _(options: alone.SimPo) -> Loss:
    return Pairs(LogProb(options.beta, per_token=True), conservative(options.label_smoothing, options.margin))


@loss_of.register
def _(options: alone.AlphaPo) -> Loss:
    return Pairs(PowerProb(options.beta, options.alpha), conservative(options.label_smoothing, options.margin))


@loss_of.register
def _(options: alone.Cpo) -> Loss:
    contrast = Pairs(LogProb(options.beta), conservative(options.label_smoothing))
    return _with_likelihood(contrast, options.nll_coef)


@loss_of.register
def _(options: alone.Orpo) -> Loss:
    odds = Weighted("odds", Pairs(LogOdds(), Logistic()), options.weight)
    return WeightedSum((Weighted("likelihood", ChosenNll(per="response"), 1.0), odds))


@loss_of.register
def _(options: alone.Tpo) -> Loss:
    contrast = Pairs(LogProb(options.beta), conservative(options.label_smoothing), at=(1, 2))
    return _with_likelihood(contrast, options.nll_coef)


@loss_of.register
def _(options: alone.TpoL) -> Loss:
    reward = LogProb(options.beta, per_token=True)
    contrast = Pairs(reward, conservative(options.label_smoothing, options.margin), at=(1, 2))
    return _with_likelihood(contrast, options.nll_coef)


@loss_of.register
def _(options: alone.Sft) -> Loss:
    return ChosenNll(options.per)
