"""The group `policy_gradient` of a stage rl: settings that replace parts of the named algorithm.

`algorithm` composes them and refuses combinations that contradict the rest of the stage. Contradictions within the
group are refused here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.credit.settings import Baseline, Combination, Scale
from burnish.losses.policy.settings import Aggregation, Level, Limiting, Old, Ratio
from burnish.settings.numbers import Positive

ClipMode = Literal["ppo", "cispo", "sapo", "none"]
Estimator = Literal["k1", "k2", "k3"]
ENTROPY_COEF_LR = 1e-3
ENTROPY_COEF_MAX = 0.1


class ClipOptions(Settings):
    """Bounds of the ratio; null: those of the algorithm."""

    clip_low: Annotated[float, Field(gt=0)] | None = None
    """Clip range below 1: the ratio counts down to 1 - clip_low; of clip_mode: ppo."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """Clip range above 1: the ratio counts up to 1 + clip_high; of clip_mode: ppo."""
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    """Dual clip: upper bound of the ratio where the advantage is negative; of clip_mode: ppo."""
    clip_max_weight: Annotated[float, Field(ge=1)] | None = None
    """Largest importance weight of a token; of clip_mode: cispo."""
    tau_positive: Annotated[float, Field(gt=0)] | None = None
    """Temperature of the soft clip where the advantage is positive; of clip_mode: sapo."""
    tau_negative: Annotated[float, Field(gt=0)] | None = None
    """Temperature of the soft clip where the advantage is not positive; of clip_mode: sapo."""
    token_log_ratio_limit: Annotated[float, Field(gt=0)] | None = None
    """Bound of each token's log-ratio before the mean over a response; of ratio_level: sequence."""

    @property
    def bounds(self) -> dict[str, float]:
        """Bounds that are not null, as fields of a clip."""
        bounds = {name: getattr(self, name) for name in ClipOptions.model_fields}
        return {name: value for name, value in bounds.items() if value is not None}


class PolicyGradientSettings(ClipOptions):
    """Settings of the policy gradient; null: those of the algorithm."""

    reward_combination: Combination | None = None
    """Combination of several rewards: sum, or normalized_sum (each is first normalized to mean 0 and standard deviation
    1 in its group)."""
    baseline: Baseline | None = None
    """Baseline of rewards: group (mean of the group), leave_one_out (mean of the other responses), none."""
    advantage_scale: Scale | None = None
    """Normalization of advantages: group or batch (divide by the standard deviation of rewards), whiten (mean 0 and
    standard deviation 1 over the batch), none."""
    ratio_level: Ratio | None = None
    """Level of the importance ratio: token, or sequence (one ratio for all tokens of a response)."""
    clip_mode: ClipMode | None = None
    """Clipping of the ratio: ppo (clip_low, clip_high, dual_clip), cispo (clip_max_weight), sapo (tau_positive,
    tau_negative), none."""
    loss_aggregation: Aggregation | None = None
    """Aggregation of the loss: token (mean over all tokens of the step), sequence (mean over a response's tokens, then
    over responses), fixed (sum over a response's tokens divided by fixed_length, then mean over responses)."""
    fixed_length: Positive | None = None
    """Divisor of loss_aggregation: fixed, tokens; null: max_new_tokens, or 1 with rloo."""
    old_logprobs: Old | None = None
    """Denominator of the ratio: policy (the policy itself: ratio exactly 1), sampler (log-probabilities reported by the
    sampler), recomputed (by the trainer before the first update, one more forward pass); null: policy with
    updates_per_batch: 1 and no replay, otherwise sampler."""
    importance_correction: Limiting | None = None
    """Importance weights π_old / sampler for a sampler whose probabilities differ from the trainer's (older weights,
    other kernels, quantization): tis (truncated at importance_correction_max), mis (masked: 0 outside
    importance_correction_min and importance_correction_max); null: no weights."""
    importance_correction_level: Level | None = None
    """Level of the importance weights: token, sequence (product over a response), mean (geometric mean over a
    response); null: mean with ratio_level: sequence, otherwise token."""
    importance_correction_max: Annotated[float, Field(ge=1)] | None = None
    """Largest importance weight; null: 2."""
    importance_correction_min: Annotated[float, Field(gt=0, le=1)] | None = None
    """Smallest importance weight, of importance_correction: mis; null: 0."""
    kl_in: Literal["reward", "advantage", "loss"] = "loss"
    """Place of the KL penalty, with kl_coef: the reward of a response, the advantage of each token, or the loss."""
    kl_estimator: Estimator | None = None
    """Estimator of the KL divergence: k2 or k3 in the loss, k1 in reward and advantage; null: k3 in the loss, otherwise
    k1."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the entropy bonus; with entropy_target its initial value."""
    entropy_target: Annotated[float, Field(gt=0)] | None = None
    """Target entropy of the policy, nats per token: the bonus's weight rises while the entropy is lower, and falls
    while it is higher; null: the weight is constant."""
    entropy_coef_lr: Annotated[float, Field(gt=0)] | None = None
    """Change of the entropy bonus's weight per step and nat below the target; null: 0.001."""
    entropy_coef_max: Annotated[float, Field(gt=0)] | None = None
    """Largest weight of the entropy bonus with entropy_target; null: 0.1."""
    mask_truncated: bool = False
    """Overlong filtering: responses truncated at max_new_tokens count in the baseline of their group and are not
    trained."""

    @model_validator(mode="after")
    def _correction_is_whole(self) -> PolicyGradientSettings:
        bounds = ("importance_correction_level", "importance_correction_max", "importance_correction_min")
        if self.importance_correction is None and (given := self.changed(*bounds)):
            raise ValueError(f"{given} needs policy_gradient.importance_correction: tis or mis")
        if self.importance_correction == "tis" and self.importance_correction_min is not None:
            raise ValueError(
                "policy_gradient.importance_correction_min needs importance_correction: mis; tis has only an upper "
                "bound"
            )
        return self

    @model_validator(mode="after")
    def _entropy_is_controlled(self) -> PolicyGradientSettings:
        if self.entropy_target is None and (given := self.changed("entropy_coef_lr", "entropy_coef_max")):
            raise ValueError(f"{given} needs policy_gradient.entropy_target: without it the weight is constant")
        if self.entropy_target is not None and self.entropy_coef > self.highest_entropy_coef:
            raise ValueError(
                f"policy_gradient.entropy_coef: {self.entropy_coef:g}, the initial weight, is above entropy_coef_max: "
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
        """`entropy_coef_max` with its default resolved."""
        return self.entropy_coef_max or ENTROPY_COEF_MAX

    @property
    def estimator(self) -> Estimator:
        """`kl_estimator` with its default resolved."""
        return self.kl_estimator or ("k3" if self.kl_in == "loss" else "k1")

    def changed(self, *names: str) -> str:
        """The first of these keys whose value is not the default, with its group; "": all have their defaults."""
        keys = type(self).model_fields
        changed = (name for name in names if getattr(self, name) != keys[name].default)
        return next((f"policy_gradient.{name}" for name in changed), "")
