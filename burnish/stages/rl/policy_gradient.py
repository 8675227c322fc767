"""What a user may say of what is minimised in learning by trying: an algorithm, and parts in the place of its own.

Under `settings`. Whatever has no effect, or would compare what cannot be compared, is refused when the recipe is read.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.algorithms import ALGORITHMS, Algorithm, algorithm
from burnish.config.settings import Settings
from burnish.credit.settings import Baseline, Combination, Scale
from burnish.losses.policy.settings import (
    Aggregation,
    Capped,
    Clip,
    Clipped,
    Correction,
    Level,
    Limiting,
    Old,
    PolicyGradientSettings,
    Ratio,
    Soft,
    Unclipped,
)
from burnish.settings.numbers import Positive

SURROGATES: dict[str, Clip] = {"clipped": Clipped(), "capped": Capped(), "soft": Soft(), "unclipped": Unclipped()}
BOUNDS = "clip_"
CORRECTING = ("correction_level", "correction_high", "correction_low")


class ClipOptions(Settings):
    """Bounds of the ratio; null: the algorithm's own."""

    clip_low: Annotated[float, Field(gt=0)] | None = None
    """How far below 1 the ratio counts; of surrogate: clipped."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """How far above 1 the ratio counts; of surrogate: clipped."""
    clip_dual: Annotated[float, Field(gt=1)] | None = None
    """Bound of the ratio where the advantage is negative (dual clip); of surrogate: clipped."""
    clip_cap: Annotated[float, Field(ge=1)] | None = None
    """Largest weight of a token; of surrogate: capped."""
    clip_rising: Annotated[float, Field(gt=0)] | None = None
    """Sharpness of the gate where the advantage is positive; of surrogate: soft."""
    clip_falling: Annotated[float, Field(gt=0)] | None = None
    """Sharpness of the gate elsewhere; of surrogate: soft."""
    clip_token_limit: Annotated[float, Field(gt=0)] | None = None
    """Bound of each token's log-ratio before the mean over a response is taken; of ratio: sequence."""

    @property
    def bounds(self) -> dict[str, float]:
        """Those that are given, by the name of the clip's field."""
        found = {name.removeprefix(BOUNDS): getattr(self, name) for name in ClipOptions.model_fields}
        return {name: value for name, value in found.items() if value is not None}


class Replay(Settings):
    """Graded groups of earlier steps, learned from again."""

    groups: Positive = 256
    """How many of the newest are kept."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Of the groups of a step, how many are from earlier ones."""


class Composition(ClipOptions):
    """An algorithm of rewarded responses, and its parts; null: the algorithm's own."""

    algorithm: str = "grpo"
    """grpo, dr_grpo, dapo, gspo, cispo, sapo, gmpo, rloo, gdpo, reinforce_pp, or online_dpo with the key preference
    (docs/methods/grpo.md)."""
    updates: Positive = 1
    """Optimiser steps that learn from one batch of responses, each from its own groups_per_step."""
    replay: Replay | None = None
    """Learns also from responses of earlier steps, such as {groups: 256, share: 0.25}; null: from new ones alone."""
    combination: Combination | None = None
    """Of several rewards: sum, or normalised_sum (each first brought to mean 0 and deviation 1 in its group)."""
    baseline: Baseline | None = None
    """What a response is compared with: group (its mean), leave_one_out (the mean of the others), none."""
    scale: Scale | None = None
    """What advantages are divided by: group, batch (the deviation of rewards), whiten (the batch's mean becomes 0, its
    deviation 1), none."""
    old: Old | None = None
    """What ratios are taken to: own (the policy itself: exactly 1), sampler (what it reported), computed (by the
    trainer before the first update, for one more forward); null: own with updates: 1 and no replay, else sampler."""
    ratio: Ratio | None = None
    """token, or sequence: one for all tokens of a response."""
    surrogate: Literal["clipped", "capped", "soft", "unclipped"] | None = None
    """What bounds the ratio: clipped (PPO), capped (CISPO), soft (SAPO), unclipped."""
    correction: Limiting | None = None
    """Weighs tokens by π_old / sampler, for probabilities that differ (older weights, other kernels, quantised ones):
    truncate (at most correction_high), mask (0 outside correction_low and correction_high); null: no weights."""
    correction_level: Level | None = None
    """Weights of each token, of the product over a response (sequence), of its root by length (mean); null: mean where
    the ratio is a sequence's, else token."""
    correction_high: Annotated[float, Field(ge=1)] | None = None
    """Largest weight; null: 2."""
    correction_low: Annotated[float, Field(gt=0, le=1)] | None = None
    """Smallest weight, of correction: mask; null: 0."""
    aggregation: Aggregation | None = None
    """Mean over tokens of the step; over a response's tokens, then responses (sequence); sum over tokens by a fixed
    length, mean over responses (fixed)."""
    fixed_length: Positive | None = None
    """Tokens by which aggregation: fixed divides; null: max_new_tokens, and 1 with rloo."""

    @model_validator(mode="after")
    def _algorithm_is_there(self) -> Composition:
        names = [*ALGORITHMS, "online_dpo"]
        if self.algorithm not in names:
            raise ValueError(f"algorithm: {self.algorithm} is none; choose from: {', '.join(names)}")
        if not self.is_gradient and (given := self._given(*PARTS)):
            raise ValueError(
                f"{given} has no effect: algorithm: online_dpo minimises a loss of comparisons, with no advantages and "
                "no ratios; remove it"
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_not_exactly_one(self) -> Composition:
        if not self.is_gradient:
            return self
        given = self._given("ratio", "surrogate", *ClipOptions.model_fields)
        if given and self.resolved_old == "own":
            why = "old: own" if self.is_repeated else "updates: 1"
            raise ValueError(f"{given} has no effect with {why}, where the ratio is exactly 1; remove it")
        if self.old == "computed" and not self.is_repeated:
            raise ValueError("old: computed is what old: own is with updates: 1 and no replay; remove it")
        return self

    @model_validator(mode="after")
    def _bounds_are_those_of_the_surrogate(self) -> Composition:
        if not self.is_gradient:
            return self
        named = ALGORITHMS[self.algorithm].loss
        if self.ratio not in (None, named.ratio) and self.surrogate is None:
            raise ValueError(
                f"ratio: {self.ratio} is not that of algorithm: {self.algorithm}, whose bounds are of its own ratio; "
                "name surrogate too, with bounds if its defaults (clipped: 0.2) are not right"
            )
        has = {entry.name for entry in fields(self._plain_clip(named))}
        if wrong := next((name for name in self.bounds if name not in has), None):
            raise ValueError(f"algorithm: {self.algorithm} has no clip_{wrong}; remove it")
        if self.clip_token_limit is not None and (self.ratio or named.ratio) == "token":
            raise ValueError("clip_token_limit is of ratio: sequence; of single tokens clip_low and clip_high are")
        return self

    @model_validator(mode="after")
    def _correction_has_something_to_correct(self) -> Composition:
        if self.correction is None:
            if given := self._given(*CORRECTING):
                raise ValueError(f"{given} needs correction: truncate or mask")
        elif self.is_gradient and self.resolved_old == "sampler":
            raise ValueError(
                "correction is of π_old / sampler, and with old: sampler these are the same; set old: computed (ratios "
                "and correction apart), or old: own (correction alone)"
            )
        elif self.correction == "truncate" and self.correction_low is not None:
            raise ValueError("correction_low is of correction: mask; truncate bounds weights from above alone")
        return self

    @model_validator(mode="after")
    def _length_is_fixed(self) -> Composition:
        if self.is_gradient and self.fixed_length is not None:
            named = ALGORITHMS[self.algorithm].loss.aggregation
            if (self.aggregation or named) != "fixed":
                raise ValueError("fixed_length has no effect without aggregation: fixed; remove it")
        return self

    def _given(self, *names: str) -> str:
        """The first of these keys that is not null, or ""."""
        return next((name for name in names if getattr(self, name) is not None), "")

    @property
    def is_gradient(self) -> bool:
        """Whether the algorithm is a policy gradient; otherwise it is a preference loss."""
        return self.algorithm != "online_dpo"

    @property
    def is_repeated(self) -> bool:
        """Whether some groups are learned from by other weights than those that wrote them."""
        return self.updates > 1 or self.replay is not None

    @property
    def corrects_rounding_alone(self) -> bool:
        """Whether a correction compares log-probabilities of the same weights: of wide types only their rounding."""
        return self.correction is not None and (self.resolved_old == "computed" or not self.is_repeated)

    @property
    def resolved_old(self) -> Old:
        """`old`, worked out."""
        return self.old or ("sampler" if self.is_repeated else "own")

    def composed(self, max_new_tokens: int) -> Algorithm:
        """The named algorithm with the parts that are given in the place of its own."""
        found = algorithm(self.algorithm, max_new_tokens=max_new_tokens)
        credit = {name: getattr(self, name) for name in ("baseline", "scale", "combination")}
        loss = replace(found.loss, clip=self._clip(found.loss), old=self.resolved_old)
        aggregation, length = self._aggregated(loss, max_new_tokens)
        loss = replace(loss, ratio=self.ratio or loss.ratio, aggregation=aggregation, fixed_length=length)
        if self.correction is not None:
            loss = replace(loss, correction=self._correction(self.correction, loss.ratio))
        return replace(
            found,
            credit=replace(found.credit, **{name: value for name, value in credit.items() if value is not None}),
            loss=loss,
        )

    def _plain_clip(self, loss: PolicyGradientSettings) -> Clip:
        """The surrogate without the bounds that are given: an algorithm's own keeps its own."""
        if self.surrogate is None or (isinstance(loss.clip, type(SURROGATES[self.surrogate])) and self.ratio is None):
            return loss.clip
        return SURROGATES[self.surrogate]

    def _clip(self, loss: PolicyGradientSettings) -> Clip:
        clip = self._plain_clip(loss)
        return replace(clip, **self.bounds) if self.bounds else clip  # type: ignore[arg-type]

    def _aggregated(self, loss: PolicyGradientSettings, max_new_tokens: int) -> tuple[Aggregation, int | None]:
        """The aggregation, and its length where it is fixed."""
        aggregation = self.aggregation or loss.aggregation
        length = self.fixed_length or loss.fixed_length or max_new_tokens
        return aggregation, length if aggregation == "fixed" else None

    def _correction(self, rule: Limiting, ratio: Ratio) -> Correction:
        level = self.correction_level or ("mean" if ratio == "sequence" else "token")
        return Correction(level, rule, self.correction_high or 2.0, self.correction_low or 0.0)


PARTS = (
    *("baseline", "scale", "old", "ratio", "surrogate", "correction", "aggregation", "fixed_length"),
    *ClipOptions.model_fields,
)
"""Keys of policy gradients."""
