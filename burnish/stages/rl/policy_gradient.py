"""The group `policy_gradient` of a stage rl: parts that stand in the place of the named algorithm's own.

Beside `algorithm`, which puts them together, and refuses what does not go with the rest of the stage. What contradicts
itself within the group is refused here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.credit import Baseline, Combination, Scale
from burnish.losses.policy import Aggregation, Level, Limiting, Old, Ratio
from burnish.recipe.numbers import Positive

ClipMode = Literal["ppo", "cispo", "sapo", "none"]
Estimator = Literal["k1", "k2", "k3"]
ENTROPY_COEF_LR = 1e-3
ENTROPY_COEF_MAX = 0.1


class ClipOptions(Settings):
    """Bounds of the ratio; null: the algorithm's own."""

    clip_low: Annotated[float, Field(gt=0)] | None = None
    """How far below 1 the ratio counts; of clip_mode: ppo."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """How far above 1 the ratio counts; of clip_mode: ppo."""
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    """Bound of the ratio where the advantage is negative; of clip_mode: ppo."""
    clip_max_weight: Annotated[float, Field(ge=1)] | None = None
    """Largest weight of a token; of clip_mode: cispo."""
    tau_positive: Annotated[float, Field(gt=0)] | None = None
    """Sharpness of the gate where the advantage is positive; of clip_mode: sapo."""
    tau_negative: Annotated[float, Field(gt=0)] | None = None
    """Sharpness of the gate elsewhere; of clip_mode: sapo."""
    token_log_ratio_limit: Annotated[float, Field(gt=0)] | None = None
    """Bound of each token's log-ratio before the mean over a response is taken; of ratio_level: sequence."""

    @property
    def bounds(self) -> dict[str, float]:
        """Those that are given: fields of a clip."""
        found = {name: getattr(self, name) for name in ClipOptions.model_fields}
        return {name: value for name, value in found.items() if value is not None}


class PolicyGradientSettings(ClipOptions):
    """Parts of a policy gradient; null: the algorithm's own."""

    reward_combination: Combination | None = None
    """Of several rewards: sum, or normalized_sum (each first brought to mean 0 and deviation 1 in its group)."""
    baseline: Baseline | None = None
    """What a response is compared with: group (its mean), leave_one_out (the mean of the others), none."""
    advantage_scale: Scale | None = None
    """What advantages are divided by: group, batch (the deviation of rewards), whiten (the batch's mean becomes 0, its
    deviation 1), none."""
    ratio_level: Ratio | None = None
    """token, or sequence: one ratio for all tokens of a response."""
    clip_mode: ClipMode | None = None
    """What bounds the ratio: ppo (clip_low, clip_high, dual_clip), cispo (clip_max_weight), sapo (tau_positive,
    tau_negative), none."""
    loss_aggregation: Aggregation | None = None
    """Mean over tokens of the step; over a response's tokens, then responses (sequence); sum over tokens by a fixed
    length, mean over responses (fixed)."""
    fixed_length: Positive | None = None
    """Tokens by which loss_aggregation: fixed divides; null: max_new_tokens, and 1 with rloo."""
    old_logprobs: Old | None = None
    """What ratios are taken to: policy (the policy itself: exactly 1), sampler (what it reported), recomputed (by the
    trainer before the first update, for one more forward); null: policy with updates_per_batch: 1 and no replay, else
    sampler."""
    importance_correction: Limiting | None = None
    """Weighs tokens by π_old / sampler, for probabilities that differ (older weights, other kernels, quantised ones):
    tis (truncated: at most importance_correction_max), mis (masked: 0 outside importance_correction_min and
    importance_correction_max); null: no weights."""
    importance_correction_level: Level | None = None
    """Weights of each token, of the product over a response (sequence), of its root by length (mean); null: mean where
    the ratio is a sequence's, else token."""
    importance_correction_max: Annotated[float, Field(ge=1)] | None = None
    """Largest weight; null: 2."""
    importance_correction_min: Annotated[float, Field(gt=0, le=1)] | None = None
    """Smallest weight, of importance_correction: mis; null: 0."""
    kl_in: Literal["reward", "advantage", "loss"] = "loss"
    """Where the divergence from the reference enters, with kl_coef: in the reward of a response, in the advantage of
    each token, or in the loss."""
    kl_estimator: Estimator | None = None
    """How the divergence is estimated: k2 or k3 in the loss, k1 in reward and advantage; null: k3 and k1."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of an entropy bonus; with entropy_target the first one."""
    entropy_target: Annotated[float, Field(gt=0)] | None = None
    """Nats per token that the policy's entropy is held at: the weight of the bonus rises where it is lower, and falls
    where it is higher; null: the weight is constant."""
    entropy_coef_lr: Annotated[float, Field(gt=0)] | None = None
    """By how much the weight moves for each nat that is missing, at each step; null: 0.001."""
    entropy_coef_max: Annotated[float, Field(gt=0)] | None = None
    """Largest weight that entropy_target may reach; null: 0.1."""
    mask_truncated: bool = False
    """Responses that were cut at max_new_tokens are compared with their siblings, and not learned from (overlong
    filtering)."""

    @model_validator(mode="after")
    def _correction_is_whole(self) -> PolicyGradientSettings:
        bounds = ("importance_correction_level", "importance_correction_max", "importance_correction_min")
        if self.importance_correction is None and (given := self.changed(*bounds)):
            raise ValueError(f"{given} needs policy_gradient.importance_correction: tis or mis")
        if self.importance_correction == "tis" and self.importance_correction_min is not None:
            raise ValueError(
                "policy_gradient.importance_correction_min is of importance_correction: mis; tis bounds weights from "
                "above alone"
            )
        return self

    @model_validator(mode="after")
    def _entropy_is_controlled(self) -> PolicyGradientSettings:
        if self.entropy_target is None and (given := self.changed("entropy_coef_lr", "entropy_coef_max")):
            raise ValueError(f"{given} needs policy_gradient.entropy_target: without it the weight is constant")
        if self.entropy_target is not None and self.entropy_coef > self.highest_entropy_coef:
            raise ValueError(
                f"policy_gradient.entropy_coef: {self.entropy_coef:g}, the first weight, is above entropy_coef_max: "
                f"{self.highest_entropy_coef:g}"
            )
        return self

    @model_validator(mode="after")
    def _divergence_has_its_gradient(self) -> PolicyGradientSettings:
        given = f"policy_gradient.kl_estimator: {self.kl_estimator}"
        if self.kl_in == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                f"{given} has an expected gradient of 0 in a loss; set k2 or k3, or kl_in: advantage or reward"
            )
        if self.kl_in != "loss" and self.kl_estimator not in (None, "k1"):
            raise ValueError(
                f"{given} has the gradient of another divergence in the {self.kl_in}, where k1 has the exact one; "
                "remove it, or set kl_in: loss"
            )
        return self

    @property
    def highest_entropy_coef(self) -> float:
        """`entropy_coef_max`, worked out."""
        return self.entropy_coef_max or ENTROPY_COEF_MAX

    @property
    def estimator(self) -> Estimator:
        """`kl_estimator`, worked out."""
        return self.kl_estimator or ("k3" if self.kl_in == "loss" else "k1")

    def changed(self, *names: str) -> str:
        """The first of these keys that is not its default, as a recipe has it, or ""."""
        keys = type(self).model_fields
        found = (name for name in names if getattr(self, name) != keys[name].default)
        return next((f"policy_gradient.{name}" for name in found), "")
