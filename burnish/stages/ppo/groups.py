"""Groups of keys of a stage ppo: the policy's loss, advantage estimation, the critic, PPO-ptx. Imports no torch.

Contradictions within a group are refused here, others in `settings`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.losses.policy.settings import Aggregation, Old, PpoClip
from burnish.settings.data import DataField
from burnish.settings.numbers import Fraction, Positive
from burnish.settings.optimizer import OptimizationSettings
from burnish.stages.on_policy.policy_loss import PolicyLossSettings

POLICY_MODEL = "policy"
"""Value of critic.model: the model that the stage starts from."""


class PpoLossSettings(PolicyLossSettings):
    """Settings of the policy's loss, the clipped surrogate."""

    clip_low: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Clip range below 1: the ratio counts down to 1 - clip_low; null: 0.2."""
    clip_high: Annotated[float, Field(gt=0)] | None = None
    """Clip range above 1: the ratio counts up to 1 + clip_high; null: 0.2."""
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    """Dual clip: upper bound of the ratio where the advantage is negative, such as 3; null: none."""
    loss_aggregation: Aggregation | None = None
    """Aggregation of the loss: token (mean over all tokens of the step), sequence (mean over a response's tokens, then
    over responses), fixed (sum over a response's tokens divided by fixed_length, then mean over responses); null:
    token."""
    fixed_length: Positive | None = None
    """Divisor of loss_aggregation: fixed, tokens; null: max_new_tokens."""
    old_logprobs: Old | None = None
    """Denominator of the ratio: sampler (log-probabilities reported by the sampler), recomputed (by the trainer before
    the first update, one more forward pass), policy (the policy itself: ratio exactly 1); null: sampler, or policy with
    one step per batch."""
    mask_truncated: bool = False
    """Overlong filtering: responses truncated at max_new_tokens are not trained, neither policy nor critic."""
    success_nll_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the negative log-likelihood of right responses (reward of at least success_threshold), such as 0.1
    (VAPO)."""

    @property
    def clip(self) -> PpoClip:
        """The clip with its defaults resolved."""
        bounds = {name: getattr(self, name) for name in ("clip_low", "clip_high", "dual_clip")}
        return PpoClip(**{name: value for name, value in bounds.items() if value is not None})


class GaeOptions(Settings):
    """Generalized advantage estimation (docs/methods/ppo.md)."""

    gamma: Fraction = 1.0
    """Discount of the rewards of later tokens."""
    gae_lambda: Fraction | None = None
    """λ of the policy's advantages; null: 0.95."""
    critic_lambda: Fraction = 1.0
    """λ of the critic's returns (decoupled GAE); 1: the sum of the rewards that followed."""
    length_adaptive_alpha: Annotated[float, Field(gt=0)] | None = None
    """Length-adaptive λ of the policy, 1 - 1 / (alpha · length of the response), such as 0.05 (VAPO); null:
    gae_lambda."""
    whiten_advantages: bool = True
    """Whitens the advantages of a batch of rollouts: mean 0 and standard deviation 1."""
    whiten_rewards: bool = False
    """Divides the rewards of tokens by their standard deviation over a batch of rollouts."""
    bootstrap_truncated: bool = False
    """Continues responses that were truncated at max_new_tokens by the critic's value; false: their end is the end of
    an episode."""

    @model_validator(mode="after")
    def _one_lambda(self) -> GaeOptions:
        if self.gae_lambda is not None and self.length_adaptive_alpha is not None:
            raise ValueError("gae.length_adaptive_alpha replaces gae.gae_lambda; give one of the two")
        return self


class CriticSettings(OptimizationSettings):
    """The critic: its initial model, its optimizer and schedule, and its loss."""

    default_rate_share: ClassVar[float] = 0.5

    model: str = POLICY_MODEL
    """Initial model: policy (the model that the stage starts from), or a reward model or language model with the
    policy's tokenizer: stage:reward, a run, a folder or a hub name."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-5 for full weights, 1e-4 for an adapter."""
    value_clip: Annotated[float, Field(gt=0)] | None = None
    """Clips the change of a value within a batch of rollouts, unit of the reward, such as 0.2; null: the plain squared
    error."""
    value_warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Value warm-up: steps at the beginning of the stage in which the critic is trained and the policy is not; whole
    batches of rollouts."""

    @model_validator(mode="after")
    def _no_average(self) -> CriticSettings:
        if self.optimizer.ema_decay is not None:
            raise ValueError(
                "critic.optimizer.ema_decay has no effect: an average is evaluated and saved, and a critic is neither; "
                "remove it"
            )
        return self


class PtxSettings(Settings):
    """Likelihood of given text beside the policy gradient (PPO-ptx), which keeps what the policy could do before."""

    data: DataField
    """Rows with responses or plain text, in the forms of the data of a stage sft."""
    coef: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the mean cross-entropy of a token."""
    sequences_per_step: Positive = 32
    """Rows per optimizer step of the policy."""
