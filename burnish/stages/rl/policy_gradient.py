"""The group `policy_gradient` of a stage rl: settings that replace parts of the named algorithm.

`algorithm` composes them and refuses combinations that contradict the rest of the stage. Contradictions within the
group are refused here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.credit.settings import Baseline, Combination, Scale
from burnish.losses.policy.settings import Ratio
from burnish.stages.on_policy.policy_loss import PolicyLossSettings

ClipMode = Literal["ppo", "cispo", "sapo", "none"]
Estimator = Literal["k1", "k2", "k3"]


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


class PolicyGradientSettings(ClipOptions, PolicyLossSettings):
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
    kl_in: Literal["reward", "advantage", "loss"] = "loss"
    """Place of the KL penalty, with kl_coef: the reward of a response, the advantage of each token, or the loss."""
    kl_estimator: Estimator | None = None
    """Estimator of the KL divergence: k2 or k3 in the loss, k1 in reward and advantage; null: k3 in the loss, otherwise
    k1."""

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
    def estimator(self) -> Estimator:
        """`kl_estimator` with its default resolved."""
        return self.kl_estimator or ("k3" if self.kl_in == "loss" else "k1")
