"""Settings of every stage whose responses the policy generates. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.data.formats.format import Stage
from burnish.model.settings import DtypeName
from burnish.rewards.registry import read_rewards
from burnish.rewards.reward import Reward
from burnish.rollouts.settings import RolloutSettings
from burnish.sampling.params import SamplingParams
from burnish.settings.adapter import Adapter
from burnish.settings.generation import TRUNCATIONS, GenerationSettings, SamplingSettings
from burnish.settings.numbers import Positive
from burnish.settings.optimizer import NEAR_REFERENCE
from burnish.settings.reward_shaping import RewardShaping
from burnish.settings.stage import CheckpointSettings, RowContent, TrainingSettings
from burnish.stages.on_policy.policy_loss import PolicyLossSettings
from burnish.train.stop_rule import StopRule
from burnish.watch.settings import AlarmName

_OWNERS: Mapping[AlarmName, str] = MappingProxyType(
    {"critic_error": "ppo, which has a critic", "teacher_gap": "distill, which has a teacher"}
)
"""Alert → the only stage that raises it."""


class RlEvaluation(Settings):
    """Evaluation on held-out prompts; needs eval_data or eval_share."""

    prompts: Positive = 128
    """Number of held-out prompts, drawn by the seed, that are answered by greedy decoding at every evaluation:
    eval/reward, eval/accuracy, and the responses in samples.jsonl."""
    kl_prompts: Annotated[int, Field(ge=0)] = 64
    """Number of training prompts, drawn by the seed, on which the KL divergence from the policy at the start of the
    stage is measured at every evaluation (eval/start_kl, which predicts forgetting); 0: none."""


class RlCheckpoints(CheckpointSettings):
    """Checkpoints that are kept, and the weights of the final model."""

    best_metric: str = "reward"
    """Metric of early_stopping and keep_best: reward (mean over the held-out responses), accuracy (share of right
    ones), or reward/NAME (mean of one reward, which may have the weight 0)."""


class OnPolicySettings(GenerationSettings, TrainingSettings):
    """Settings of a stage whose responses the policy generates and rewards grade."""

    serves: ClassVar[Stage] = "rl"
    rows_have: ClassVar[RowContent] = "prompts"
    default_rate_share: ClassVar[float] = NEAR_REFERENCE
    own_alerts: ClassVar[frozenset[AlarmName]] = frozenset()
    """Alerts of this stage and of no other."""

    reward: str | dict[str, Any] | list[str | dict[str, Any]]
    """Reward: a name, file.py:function, a mapping, or a list of these (docs/rewards.md)."""
    reward_workers: Positive | None = None
    """Number of processes that compute rewards; null: one per core, at most 8."""
    reward_shaping: RewardShaping = RewardShaping()
    """Changes of rewards before they are credited: normalization, clipping, penalties, such as {missing_end_penalty:
    1}."""
    responses_per_prompt: Positive = 8
    """Number of responses sampled for each prompt: the group size."""
    groups_per_step: Positive = 8
    """Prompts per optimizer step, each with its responses: the batch size that determines the result."""
    sampling: SamplingSettings = SamplingSettings()
    """Sampling of responses."""
    curriculum: bool = False
    """Curriculum: draws prompts that are solved about half the time more often; false: each prompt once per epoch."""
    success_threshold: float = 0.5
    """Smallest reward of a response that counts as right, in eval/accuracy and for the curriculum."""
    evaluation: RlEvaluation = RlEvaluation()
    """Evaluation on held-out prompts."""
    checkpoints: RlCheckpoints = RlCheckpoints()
    """Checkpoints that are kept, and the weights of the final model."""
    stop_on_alerts: Annotated[tuple[AlarmName, ...], Field(strict=False)] = ()
    """Alerts that end the stage: equal_rewards, entropy_collapse, zero_reward, length_drift, ungraded, repetition,
    kl_drift, reward_hacking, in a stage ppo critic_error, in a stage distill teacher_gap (docs/watch.md); []: none
    does."""
    log_samples_every: Positive = 10
    """Steps between those whose best, worst and most surprising responses are written to samples.jsonl."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _rewards_can_be_read(self) -> OnPolicySettings:
        assert self.rewards or self.reward is None  # reading refuses unknown names and options
        return self

    @model_validator(mode="after")
    def _steps_are_parts_of_the_reward(self) -> OnPolicySettings:
        stepped = next((reward for reward in self.rewards if reward.credits_steps), None)
        changed = [
            key for key, off in (("normalize", "none"), ("clip", None)) if getattr(self.reward_shaping, key) != off
        ]
        if stepped is not None and changed:
            raise ValueError(
                f"reward_shaping.{changed[0]} changes the reward of a response and not those of its steps, which "
                f"reward {stepped.key} credits one by one (credit: step); remove it, or set credit: response"
            )
        return self

    @model_validator(mode="after")
    def _alerts_are_of_this_stage(self) -> OnPolicySettings:
        for alert in self.stop_on_alerts:
            if (owner := _OWNERS.get(alert)) is not None and alert not in self.own_alerts:
                raise ValueError(f"stop_on_alerts: {alert} is an alert of a stage {owner}; remove it")
        return self

    @model_validator(mode="after")
    def _stop_rules_have_metrics(self) -> OnPolicySettings:
        metric, known = self.checkpoints.best_metric, self.best_metrics
        if metric not in known:
            raise ValueError(f"checkpoints.best_metric: {metric} is unknown; choose from: {', '.join(known)}")
        if metric != type(self.checkpoints).model_fields["best_metric"].default and not (
            self.checkpoints.keep_best or self.early_stopping
        ):
            raise ValueError(
                f"checkpoints.best_metric: {metric} needs checkpoints.keep_best or early_stopping, which use it"
            )
        if "kl_drift" in self.stop_on_alerts and not self.needs_reference:
            raise ValueError(
                "stop_on_alerts: kl_drift needs a reference, and none is computed; set kl_coef, or remove it"
            )
        return self

    def require_possible(self, adapter: Adapter, dtype: DtypeName) -> None:
        if adapter.dropout:
            raise ValueError(
                "adapter.dropout: responses are sampled without it, so training with it would compare two policies; "
                "remove it from a recipe with a stage that samples responses"
            )
        if dtype in ("float32", "float64") and adapter.kind != "qlora" and self.corrects_rounding_alone:
            raise ValueError(
                f"policy_gradient.importance_correction has no effect with dtype: {dtype}: responses are sampled with "
                "the trainer's own weights, and their log-probabilities differ by rounding alone; remove it"
            )

    @property
    def best_metrics(self) -> Sequence[str]:
        """Metrics of evaluations that checkpoints.best_metric may name."""
        return ["reward", "accuracy", *(f"reward/{reward.key}" for reward in self.rewards)]

    @property
    def loss_parts(self) -> PolicyLossSettings:
        """Settings of the policy's loss."""
        raise NotImplementedError

    @property
    def needs_reference(self) -> bool:
        """Whether responses get log-probabilities of a reference."""
        raise NotImplementedError

    @property
    def recomputes(self) -> bool:
        """Whether the trainer recomputes the log-probabilities of a batch before its first update."""
        raise NotImplementedError

    @property
    def learns_by_ratios(self) -> bool:
        """Whether the sampler's log-probabilities are the denominator of ratios."""
        raise NotImplementedError

    @property
    def corrects_rounding_alone(self) -> bool:
        """Whether importance weights compare log-probabilities of the same weights, which in float32 and float64 differ
        by rounding alone."""
        raise NotImplementedError

    @property
    def rollouts(self) -> RolloutSettings:
        """Settings of a batch of rollouts."""
        return RolloutSettings(
            self.groups_per_step,
            self.responses_per_prompt,
            success_threshold=self.success_threshold,
            log_samples_every=self.log_samples_every,
            mask_truncated=self.loss_parts.mask_truncated,
            shaping=self.reward_shaping.rule,
        )

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The rewards; see `rewards.registry.read_rewards`.

        Raises:
            RecipeError: an unknown reward or option.
        """
        return read_rewards(self.reward)

    @property
    def entropy_control(self) -> tuple[float, float, float] | None:
        """Target, learning rate and largest weight of the entropy bonus; None: its weight is constant."""
        return self.loss_parts.entropy_control

    @property
    def stop_rule(self) -> StopRule:
        """Rule of early stopping and of the final weights."""
        alerts = frozenset(self.stop_on_alerts)
        return replace(super().stop_rule, best_metric=self.checkpoints.best_metric, rises=True, alerts=alerts)

    @property
    def draws_per_step(self) -> int:
        return self.groups_per_step

    def params(self, seed: int) -> SamplingParams:
        """Sampling parameters of training."""
        return SamplingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.sampling.temperature,
            stop=self.sampling.stop,
            seed=seed,
            **{name: getattr(self.sampling, name) for name in TRUNCATIONS},
        )
