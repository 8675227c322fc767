"""Settings of reinforcement learning. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.config.text import put
from burnish.credit.settings import CreditSettings, PairingSettings
from burnish.data.formats.format import Stage
from burnish.model.settings import DtypeName
from burnish.rewards.registry import read_rewards
from burnish.rewards.reward import Reward
from burnish.rollouts.settings import ReplayRule, RolloutSettings
from burnish.sampling.params import SamplingParams
from burnish.settings.adapter import Adapter
from burnish.settings.generation import TRUNCATIONS, GenerationSettings, SamplingSettings
from burnish.settings.numbers import Positive
from burnish.settings.optimizer import NEAR_REFERENCE
from burnish.settings.preference_loss import OnlinePreference
from burnish.settings.resolved import Resolved, resolved
from burnish.settings.stage import CheckpointSettings, RowContent, TrainingSettings
from burnish.stages.rl.algorithm_settings import AlgorithmSettings
from burnish.stages.rl.algorithms import Algorithm
from burnish.stages.rl.policy_gradient import ENTROPY_COEF_LR
from burnish.train.stop_rule import StopRule
from burnish.watch.settings import AlarmName


class RlEvaluation(Settings):
    """Evaluation on held-out prompts; needs eval_data or eval_share."""

    prompts: Positive = 128
    """Number of held-out prompts, drawn by the seed, that are answered by greedy decoding at every evaluation:
    eval/reward, eval/accuracy, and the responses in samples.jsonl."""


class RlCheckpoints(CheckpointSettings):
    """Checkpoints that are kept, and the weights of the final model."""

    best_metric: Literal["reward", "accuracy"] = "reward"
    """Metric of early_stopping and keep_best: the mean reward of the held-out responses, or the share of right ones."""


class RlSettings(GenerationSettings, AlgorithmSettings, TrainingSettings):
    """Reinforcement learning: the policy generates responses, rewards grade them, and better ones become more
    probable."""

    serves: ClassVar[Stage] = "rl"
    rows_have: ClassVar[RowContent] = "prompts"
    default_rate_share: ClassVar[float] = NEAR_REFERENCE
    usual: ClassVar[tuple[str, ...]] = (
        "reward",
        "algorithm",
        "responses_per_prompt",
        "groups_per_step",
        "max_new_tokens",
        "sampling.temperature",
        "kl_coef",
        "epochs",
        "learning_rate",
        "tokens_per_microbatch",
        "chat_template",
        "eval_share",
        "eval_every",
        "adapter.kind",
        "adapter.rank",
    )

    reward: str | dict[str, Any] | list[str | dict[str, Any]]
    """Reward: a name, file.py:function, a mapping, or a list of these (docs/rewards.md)."""
    reward_workers: Positive | None = None
    """Number of processes that compute rewards; null: one per core, at most 8."""
    responses_per_prompt: Positive = 8
    """Number of responses sampled for each prompt: the group size."""
    groups_per_step: Positive = 8
    """Prompts per optimizer step, each with its responses: the batch size that determines the result."""
    sampling: SamplingSettings = SamplingSettings()
    """Sampling of responses."""
    preference: OnlinePreference | None = None
    """With algorithm: online_dpo, the preference loss and its pairs, such as {loss: ipo, beta: 0.2}; null: dpo on the
    best and the worst response."""
    dynamic_sampling: bool | None = None
    """Dynamic sampling: groups whose rewards are all equal are replaced by further prompts. null: where rewards alone
    have a gradient; with kl_coef or an entropy bonus such groups are trained on, for these terms."""
    max_resamples: Positive = 4
    """With dynamic sampling, maximum number of prompts to sample per group of the batch. 1: groups are dropped without
    replacement."""
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
    kl_drift, reward_hacking (docs/watch.md); []: none does."""
    log_samples_every: Positive = 10
    """Steps between those whose best, worst and most surprising responses are written to samples.jsonl."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _rewards_are_valid(self) -> RlSettings:
        weighted = [reward for reward in self.rewards if reward.weight]  # reading refuses unknown names and options
        if self.policy_gradient.reward_combination == "normalized_sum" and len(weighted) == 1:
            raise ValueError(
                "policy_gradient.reward_combination: normalized_sum needs several rewards, and here "
                f"{weighted[0].key} is the only one"
            )
        if self.responses_per_prompt == 1 and self.group_relative:
            raise ValueError(
                f"responses_per_prompt: 1 has nothing to be compared with, and algorithm: {self.algorithm} compares "
                "the responses to a prompt; set at least 2, or algorithm: reinforce_pp"
            )
        return self

    @model_validator(mode="after")
    def _steps_have_advantages(self) -> RlSettings:
        stepped = next((reward for reward in self.rewards if reward.credits_steps), None)
        if stepped is not None and not self.is_gradient:
            raise ValueError(
                f"reward {stepped.key}: credit: step gives tokens advantages, and algorithm: online_dpo compares whole "
                "responses; set credit: response, or another algorithm"
            )
        if stepped is not None and self.rule.reward_combination != "sum":
            raise ValueError(
                f"reward {stepped.key}: credit: step needs a reward that is the sum of its parts, and "
                f"reward_combination: {self.rule.reward_combination} normalizes each part over whole responses; set "
                "credit: response, or policy_gradient.reward_combination: sum"
            )
        return self

    @model_validator(mode="after")
    def _dynamic_sampling_has_an_effect(self) -> RlSettings:
        if self.dynamic_sampling and not self.group_relative:
            raise ValueError(
                f"dynamic_sampling has no effect: algorithm: {self.algorithm} does not compare the responses to a "
                "prompt, so equal rewards have a gradient; remove it"
            )
        if not self.replaces_equal and self.max_resamples != type(self).model_fields["max_resamples"].default:
            why = "dynamic_sampling: false" if self.dynamic_sampling is False else "kl_coef or an entropy bonus"
            if not self.group_relative:
                why = f"algorithm: {self.algorithm}, which does not compare the responses to a prompt"
            raise ValueError(
                f"max_resamples has no effect with {why}: groups whose rewards are all equal are trained on; remove it"
                + (", or set dynamic_sampling: true" if self.group_relative else "")
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_those_of_the_policy(self) -> RlSettings:
        if truncation := self.sampling.truncation if self.is_gradient else "":
            problem = f"sampling.{truncation} makes the sampling distribution differ from the policy's, and "
            if self.policy_gradient.importance_correction is not None:
                raise ValueError(
                    f"{problem}policy_gradient.importance_correction uses the probabilities before it; remove one of "
                    "them"
                )
            if self.resolved_old != "policy":
                raise ValueError(
                    f"{problem}{self._why_ratios} learns by ratios of the policy's probabilities; remove "
                    f"sampling.{truncation}, or set updates_per_batch: 1"
                )
        return self

    @property
    def _why_ratios(self) -> str:
        """The key that makes ratios differ from 1."""
        if self.updates_per_batch > 1:
            return f"updates_per_batch: {self.updates_per_batch}"
        return "replay" if self.replay else f"policy_gradient.old_logprobs: {self.policy_gradient.old_logprobs}"

    @model_validator(mode="after")
    def _comparisons_have_a_loss(self) -> RlSettings:
        if self.is_gradient:
            if self.preference is not None:
                raise ValueError(
                    f"preference needs algorithm: online_dpo, and here it is {self.algorithm}; remove one of them"
                )
        elif self.policy_gradient.reward_combination is not None and not self.group_relative:
            raise ValueError(
                "policy_gradient.reward_combination compares rewards within a group, and this loss takes each verdict "
                "on its own"
            )
        return self

    @model_validator(mode="after")
    def _stop_rules_have_metrics(self) -> RlSettings:
        metric = self.checkpoints.best_metric
        if metric != "reward" and not (self.checkpoints.keep_best or self.early_stopping):
            raise ValueError(
                f"checkpoints.best_metric: {metric} needs checkpoints.keep_best or early_stopping, which use it"
            )
        if "kl_drift" in self.stop_on_alerts and not self.needs_reference:
            raise ValueError(
                "stop_on_alerts: kl_drift needs a reference, and none is computed; set kl_coef, or remove it"
            )
        if (replay := self._replaying) is not None and not replay.count(self._batch):
            raise ValueError(
                f"replay.fraction: {replay.fraction:g} of {self._batch} groups is less than one; raise it, or "
                "groups_per_step"
            )
        return self

    def require_possible(self, adapter: Adapter, dtype: DtypeName) -> None:
        if adapter.dropout:
            raise ValueError(
                "adapter.dropout: responses are sampled without it, so training with it would compare two policies; "
                "remove it from a recipe with a stage rl"
            )
        if dtype in ("float32", "float64") and adapter.kind != "qlora" and self.corrects_rounding_alone:
            raise ValueError(
                f"policy_gradient.importance_correction has no effect with dtype: {dtype}: responses are sampled with "
                "the trainer's own weights, and their log-probabilities differ by rounding alone; remove it"
            )

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The rewards; see `rewards.registry.read_rewards`.

        Raises:
            RecipeError: an unknown reward or option.
        """
        return read_rewards(self.reward)

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared with each other."""
        return self.rule.group_relative

    @property
    def chosen(self) -> Algorithm:
        """The policy gradient with all settings of this stage."""
        composed, parts = self.composed(self.max_new_tokens), self.policy_gradient
        credit, loss = composed.credit, replace(composed.loss, entropy_coef=parts.entropy_coef)
        match parts.kl_in:
            case "advantage":
                credit = replace(credit, advantage_kl_coef=self.kl_coef)
            case "reward":
                credit = replace(credit, reward_kl_coef=self.kl_coef)
            case "loss":
                estimator = parts.estimator
                assert estimator != "k1", "reading a recipe refuses k1 in the loss"
                loss = replace(loss, kl_coef=self.kl_coef, kl_estimator=estimator)
        return replace(composed, credit=credit, loss=loss)

    @property
    def rule(self) -> CreditSettings | PairingSettings:
        """Settings of the credit rule, or of pairing, that is applied to graded groups."""
        if self.is_gradient:
            return self.chosen.credit
        pairing = self.compared.pairing(self.success_threshold)
        return replace(pairing, reward_combination=self.policy_gradient.reward_combination or "sum")

    @property
    def compared(self) -> OnlinePreference:
        """The preference loss of online_dpo."""
        return self.preference or OnlinePreference()

    @property
    def needs_reference(self) -> bool:
        """Whether responses get log-probabilities of a reference."""
        if not self.is_gradient:
            return self.compared.preference.reference
        chosen = self.chosen
        return chosen.credit.needs_reference or chosen.loss.needs_reference

    @property
    def entropy_control(self) -> tuple[float, float, float] | None:
        """Target, learning rate and largest weight of the entropy bonus; None: its weight is constant."""
        parts = self.policy_gradient
        if parts.entropy_target is None:
            return None
        return parts.entropy_target, parts.entropy_coef_lr or ENTROPY_COEF_LR, parts.highest_entropy_coef

    @property
    def stop_rule(self) -> StopRule:
        """Rule of early stopping and of the final weights."""
        alerts = frozenset(self.stop_on_alerts)
        return replace(super().stop_rule, best_metric=self.checkpoints.best_metric, rises=True, alerts=alerts)

    @property
    def _batch(self) -> int:
        """Groups of one batch of rollouts."""
        return self.groups_per_step * self.updates_per_batch

    @property
    def _replaying(self) -> ReplayRule | None:
        """Rule of replay; None: no replay."""
        return None if self.replay is None else ReplayRule(self.replay.groups, self.replay.fraction)

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        values: dict[str, Any] = {"dynamic_sampling": self.replaces_equal} if self.group_relative else {}
        if not self.is_gradient:
            values["preference"] = self.compared.model_dump(mode="json")
            for key, value in self.compared.resolved_options.items():
                put(values["preference"], key, value)
        parts = self.resolved_parts(self.max_new_tokens)
        if sum(bool(reward.weight) for reward in self.rewards) < 2:
            parts.pop("policy_gradient.reward_combination", None)  # one reward is combined with nothing
        return {**super().resolved_defaults, **parts, **resolved(values, "default")}

    @property
    def replaces_equal(self) -> bool:
        """`dynamic_sampling` with its default resolved."""
        if self.dynamic_sampling is not None:
            return self.dynamic_sampling
        parts = self.policy_gradient
        others = self.kl_coef or parts.entropy_coef or parts.entropy_target
        return self.group_relative and not (self.is_gradient and others)

    @property
    def draws_per_step(self) -> int:
        return self.groups_per_step

    @property
    def rollouts(self) -> RolloutSettings:
        """Settings of a batch of rollouts."""
        return RolloutSettings(
            self.groups_per_step,
            self.responses_per_prompt,
            self.updates_per_batch,
            self.max_resamples,
            self.success_threshold,
            drops=self.replaces_equal,
            log_samples_every=self.log_samples_every,
            mask_truncated=self.policy_gradient.mask_truncated,
            replay=self._replaying,
        )

    @property
    def recomputes(self) -> bool:
        """Whether the trainer recomputes the log-probabilities of a batch before its first update."""
        return self.is_gradient and self.resolved_old == "recomputed"

    def params(self, seed: int) -> SamplingParams:
        """Sampling parameters of training."""
        return SamplingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.sampling.temperature,
            stop=self.sampling.stop,
            seed=seed,
            **{name: getattr(self.sampling, name) for name in TRUNCATIONS},
        )
