"""Registry of preference losses: `chosen_loss("dpo", beta=0.2)`, and weighted sums of several.

Unknown names and options, and numbers outside their range, are refused here. Imports no torch; `build` makes the
losses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from burnish.errors import RecipeError
from burnish.losses.preference import with_reference as of
from burnish.losses.preference import without_reference as alone
from burnish.losses.preference.options import DataNeeds, Options, Within
from burnish.similar import similar

PREFERENCE_LOSSES: Mapping[str, type[Any]] = {
    "dpo": of.Dpo,
    "dpo_norm": of.DpoNorm,
    "cdpo": of.ConservativeDpo,
    "robust_dpo": of.RobustDpo,
    "beta_dpo": of.BetaDpo,
    "ipo": of.IpoOptions,
    "hinge": of.HingeDpo,
    "exo": of.ExoOptions,
    "discopop": of.DiscoPopOptions,
    "nca": of.NcaOptions,
    "bco": of.BcoOptions,
    "bco_shifted": of.ShiftedBcoOptions,
    "sppo": of.SppoOptions,
    "apo_zero": of.ApoZeroOptions,
    "apo_down": of.ApoDownOptions,
    "aot": of.AotOptions,
    "aot_unpaired": of.AotUnpairedOptions,
    "kto": of.KtoOptions,
    "apo_zero_unpaired": of.ApoZeroUnpaired,
    "orpo": alone.Orpo,
    "simpo": alone.SimPo,
    "alphapo": alone.AlphaPo,
    "cpo": alone.Cpo,
    "tpo": alone.Tpo,
    "tpo_l": alone.TpoL,
    "plackett_luce": of.PlackettLuceOptions,
    "lipo": of.Lipo,
    "sft": alone.Sft,
}
"""Name → class of `Options`; its fields are the options, with defaults and ranges."""


@dataclass(frozen=True, slots=True)
class ChosenPart:
    """One part of a sum."""

    name: str
    weight: float
    options: Options


@dataclass(frozen=True, slots=True)
class Chosen:
    """A loss with its options, or a weighted sum of several, with the data that it needs."""

    options: Options | tuple[ChosenPart, ...]
    """Options of one loss, or the parts of a sum."""
    reference: bool
    """Groups need `reference_logprobs`."""
    data: DataNeeds
    measured: bool
    """Each step needs mismatched pairs, which are only scored."""


def chosen_loss(name: str, **written: object) -> Chosen:
    """A loss by its name.

    Args:
        name: a key of PREFERENCE_LOSSES.
        written: its options; others have their defaults.

    Raises:
        RecipeError: there is no such loss, it has no such option, or a value is not in the option's range.
    """
    options = read_options(name, written)
    return Chosen(options, options.reference, options.data, options.measured)


def chosen_sum(parts: Sequence[tuple[str, float, Mapping[str, object]]]) -> Chosen:
    """A weighted sum of different losses, as (name, weight, options); for instance of DPO and likelihood.

    Raises:
        RecipeError: as `chosen_loss`; or no parts, equal names, a weight of 0, or parts that need different groups.
    """
    if not parts or len({name for name, _, _ in parts}) < len(parts) or not all(weight for _, weight, _ in parts):
        raise RecipeError(
            given=f"a sum of {[(name, weight) for name, weight, _ in parts]}",
            rule="a sum has different losses, each with a weight that is not 0",
            remedy="name each loss once, and leave out losses of weight 0",
        )
    chosen = [ChosenPart(name, weight, read_options(name, written)) for name, weight, written in parts]
    data = {part.options.data for part in chosen} - {DataNeeds.ANY} or {DataNeeds.ANY}
    if len(data) > 1:
        raise RecipeError(
            given=f"a sum of {', '.join(f'{part.name} ({part.options.data})' for part in chosen)}",
            rule="all parts of a sum learn from the same groups",
            remedy="leave out the losses whose data you do not have",
        )
    return Chosen(
        tuple(chosen),
        reference=any(part.options.reference for part in chosen),
        data=data.pop(),
        measured=any(part.options.measured for part in chosen),
    )


def read_options(name: str, written: Mapping[str, object]) -> Options:
    """Reads and checks the options of a loss; see `chosen_loss`."""
    if name not in PREFERENCE_LOSSES:
        raise RecipeError(
            given=f"loss: {name}",
            rule=f"preference losses are {', '.join(PREFERENCE_LOSSES)}",
            remedy=_nearest(name, PREFERENCE_LOSSES),
        )
    kind = PREFERENCE_LOSSES[name]
    known = {entry.name for entry in fields(kind)}
    for option in written:
        if option not in known:
            raise RecipeError(
                given=f"{key_of(option)} for the loss {name}, which does not use it",
                rule=f"the options of {name} are {', '.join(sorted(map(key_of, known)))}",
                remedy=_nearest(option, known, key_of),
            )
    hints = get_type_hints(kind, include_extras=True)
    values = {option: _checked(name, option, value, hints[option]) for option, value in written.items()}
    chosen: Options = kind(**values)
    _require_divergence_alpha(name, values)
    return chosen


def key_of(option: str) -> str:
    """Key of an option in a recipe: beta is a key of the stage, all others are in loss_options."""
    return option if option == "beta" else f"loss_options.{option}"


def _require_divergence_alpha(name: str, values: Mapping[str, object]) -> None:
    has_alpha = values.get("divergence_alpha") is not None
    if has_alpha != (values.get("divergence") == "alpha"):
        raise RecipeError(
            given=f"loss_options.divergence: {values.get('divergence', 'reverse_kl')} for the loss {name} "
            + ("with" if has_alpha else "without")
            + " loss_options.divergence_alpha",
            rule="divergence_alpha is the α of divergence: alpha, and of no other",
            remedy="give both or neither",
        )


def _checked(name: str, option: str, value: object, hint: Any) -> object:
    """The value, checked against the annotation of the option."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if type(None) in get_args(hint) else [hint]
    if value is None and kinds != [hint]:
        return None
    [kind] = kinds
    if get_origin(kind) is Literal:
        good, rule = value in get_args(kind), "one of " + ", ".join(map(str, get_args(kind)))
    elif kind is bool:
        good, rule = isinstance(value, bool), "true or false"
    else:
        assert get_origin(kind) is Annotated, f"{name}.{option} is annotated with its range"
        [within] = get_args(kind)[1:]
        good, rule = _is_within(value, within), f"a number{_described(within)}"
    if not good:
        raise RecipeError(
            given=f"{key_of(option)}: {value!r}", rule=f"{option} of {name} is {rule}", remedy="change the value"
        )
    return value


def _is_within(value: object, within: Within) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        return False
    return (
        (within.above is None or value > within.above)
        and (within.at_least is None or value >= within.at_least)
        and (within.below is None or value < within.below)
        and (within.at_most is None or value <= within.at_most)
    )


def _described(within: Within) -> str:
    limits = {"above": within.above, "at least": within.at_least, "below": within.below, "at most": within.at_most}
    return "".join(f", {words} {limit:g}" for words, limit in limits.items() if limit is not None)


def _nearest(word: str, known: Collection[str], spell: Callable[[str], str] = str) -> str:
    close = similar(word, known)
    return f"did you mean {spell(close[0])}?" if close else "use one of them"
