"""Settings of the policy's loss that all algorithms on sampled responses have: aggregation, ratios, entropy.

Imports no torch. Contradictions within the group are refused here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.losses.policy.settings import Aggregation, ImportanceCorrection, Level, Limiting, Old, Ratio
from burnish.settings.numbers import Positive

ENTROPY_COEF_LR = 1e-3
ENTROPY_COEF_MAX = 0.1


class PolicyLossSettings(Settings):
    """Settings of the policy's loss; null: those of the algorithm."""

    loss_aggregation: Aggregation | None = None
    """Aggregation of the loss: token (mean over all tokens of the step), sequence (mean over a response's tokens, then
    over responses), fixed (sum over a response's tokens divided by fixed_length, then mean over responses)."""
    fixed_length: Positive | None = None
    """Divisor of loss_aggregation: fixed, tokens; null: max_new_tokens, or 1 with rloo."""
    old_logprobs: Old | None = None
    """Denominator of the ratio: policy (the policy itself: ratio exactly 1), sampler (log-probabilities reported by the
    sampler), recomputed (by the trainer before the first update, one more forward pass); null: policy where a batch has
    one update and there is no replay, otherwise sampler."""
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
    def _correction_is_whole(self) -> PolicyLossSettings:
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
    def _entropy_is_controlled(self) -> PolicyLossSettings:
        if self.entropy_target is None and (given := self.changed("entropy_coef_lr", "entropy_coef_max")):
            raise ValueError(f"{given} needs policy_gradient.entropy_target: without it the weight is constant")
        if self.entropy_target is not None and self.entropy_coef > self.highest_entropy_coef:
            raise ValueError(
                f"policy_gradient.entropy_coef: {self.entropy_coef:g}, the initial weight, is above entropy_coef_max: "
                f"{self.highest_entropy_coef:g}"
            )
        return self

    @property
    def highest_entropy_coef(self) -> float:
        """`entropy_coef_max` with its default resolved."""
        return self.entropy_coef_max or ENTROPY_COEF_MAX

    @property
    def entropy_control(self) -> tuple[float, float, float] | None:
        """Target, learning rate and largest weight of the entropy bonus; None: its weight is constant."""
        if self.entropy_target is None:
            return None
        return self.entropy_target, self.entropy_coef_lr or ENTROPY_COEF_LR, self.highest_entropy_coef

    def correction(self, ratio: Ratio) -> ImportanceCorrection | None:
        """The importance correction of a loss with this level of its ratio; None: there is none."""
        if self.importance_correction is None:
            return None
        level = self.importance_correction_level or ("mean" if ratio == "sequence" else "token")
        max_weight, min_weight = self.importance_correction_max or 2.0, self.importance_correction_min or 0.0
        return ImportanceCorrection(level, self.importance_correction, max_weight, min_weight)

    def require_consistent(self, old: Old) -> None:
        """Refuses options that have no effect with this denominator of the ratio.

        Raises:
            ValueError: says which, and what to change.
        """
        if self.importance_correction is not None and old == "sampler":
            raise ValueError(
                "policy_gradient.importance_correction weights by π_old / sampler, and with old_logprobs: sampler "
                "these are the same; set policy_gradient.old_logprobs: recomputed"
            )
        if self.fixed_length is not None and self.loss_aggregation != "fixed":
            raise ValueError(
                "policy_gradient.fixed_length has no effect without policy_gradient.loss_aggregation: fixed; remove it"
            )

    def changed(self, *names: str) -> str:
        """The first of these keys whose value is not the default, with its group; "": all have their defaults."""
        keys = type(self).model_fields
        changed = (name for name in names if getattr(self, name) != keys[name].default)
        return next((f"policy_gradient.{name}" for name in changed), "")
