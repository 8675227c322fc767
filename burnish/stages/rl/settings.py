"""What a user may say of a stage of reinforcement learning. Under `recipe`; needs no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.algorithms import Algorithm
from burnish.config.settings import Settings
from burnish.credit.settings import CreditSettings, PairingSettings
from burnish.data.formats.format import Stage
from burnish.sampling.params import SamplingParams
from burnish.settings.generation import TRUNCATIONS, GenerationSettings, SamplingSettings
from burnish.settings.numbers import Positive
from burnish.settings.preference_loss import OnlinePreference
from burnish.settings.stage import CheckpointSettings, StageSettings
from burnish.sources.settings import ReplayRule, RolloutSettings
from burnish.stages.rl.algorithm import AlgorithmSettings
from burnish.stages.rl.policy_gradient import ENTROPY_COEF_LR
from burnish.stop_rule import StopRule
from burnish.tasks.reward import Reward
from burnish.tasks.settings import read_rewards
from burnish.watch.settings import AlarmName


class RlEvaluation(Settings):
    """What is measured at every evaluation, with eval_data."""

    prompts: Positive = 128
    """Held-out prompts, drawn by the seed, that are answered greedily: eval/reward, eval/accuracy, and samples.jsonl
    with the answers."""


class RlCheckpoints(CheckpointSettings):
    """Which checkpoints stay, and which weights a stage hands on."""

    best_metric: Literal["reward", "accuracy"] = "reward"
    """What early_stopping and keep_best go by: the mean reward of the held-out answers, or the share of right ones."""


class RlSettings(GenerationSettings, AlgorithmSettings, StageSettings):
    """Learning by trying: the policy writes responses, rewards judge them, the better ones become likelier."""

    serves: ClassVar[Stage] = "rl"

    reward: str | dict[str, Any] | list[str | dict[str, Any]]
    """What judges responses: a name, file.py:function, a mapping, or a list of these (docs/rewards.md)."""
    reward_workers: Positive | None = None
    """Processes that judge; null: one for each core, at most 8."""
    responses_per_prompt: Positive = 8
    """Responses to each prompt."""
    groups_per_step: Positive = 8
    """Prompts per optimiser step, each with its responses: the batch size that matters for the result."""
    sampling: SamplingSettings = SamplingSettings()
    """How the tokens of a response are chosen."""
    preference: OnlinePreference | None = None
    """With algorithm: online_dpo, the loss and what it compares, such as {loss: ipo, beta: 0.2}; null: dpo, of the best
    and the worst response."""
    max_resamples: Positive = 4
    """Prompts that are tried for each one that is wanted: groups whose responses are all as good teach nothing, and are
    replaced. 1: they are left out."""
    curriculum: bool = False
    """Draws prompts oftener that are solved about half the time; otherwise every epoch has each once."""
    success_threshold: float = 0.5
    """Reward from which on a response counts as right: in eval/accuracy, and for the curriculum."""
    evaluation: RlEvaluation = RlEvaluation()
    """What is measured at every evaluation."""
    checkpoints: RlCheckpoints = RlCheckpoints()
    """Which checkpoints stay, and which weights the stage hands on."""
    stop_on_alerts: Annotated[tuple[AlarmName, ...], Field(strict=False)] = ()
    """Alerts that end the stage: collapse, no_reward, length_drift, unjudged, repetition, distance, tricks
    (docs/watch.md)."""
    log_samples_every: Positive = 10
    """Steps between those of which the best, the worst and the most surprising response go to samples.jsonl."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-6 for full weights, 1e-5 for an adapter."""

    @model_validator(mode="after")
    def _rewards_are_there(self) -> RlSettings:
        weighted = [reward for reward in self.rewards if reward.weight]  # refuses names and options that do not exist
        if self.policy_gradient.reward_combination == "normalized_sum" and len(weighted) == 1:
            raise ValueError(
                "policy_gradient.reward_combination: normalized_sum is of several rewards, and here "
                f"{weighted[0].key} is alone"
            )
        if self.responses_per_prompt == 1 and self.group_relative:
            raise ValueError(
                f"responses_per_prompt: 1 has nothing to be compared with, and algorithm: {self.algorithm} compares "
                "the responses to a prompt; write at least 2, or choose algorithm: reinforce_pp"
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_those_of_the_policy(self) -> RlSettings:
        if cut := self.sampling.truncation if self.is_gradient else "":
            drawn = f"sampling.{cut} draws from another distribution than the policy's, and "
            if self.policy_gradient.importance_correction is not None:
                raise ValueError(
                    f"{drawn}policy_gradient.importance_correction weighs by the probabilities before it; remove one "
                    "of them"
                )
            if self.resolved_old != "policy":
                raise ValueError(
                    f"{drawn}{self._why_ratios} learns by ratios of the policy's probabilities; remove sampling.{cut}, "
                    "or set updates_per_batch: 1"
                )
        return self

    @property
    def _why_ratios(self) -> str:
        """The key by which ratios are not exactly 1."""
        if self.updates_per_batch > 1:
            return f"updates_per_batch: {self.updates_per_batch}"
        return "replay" if self.replay else f"policy_gradient.old_logprobs: {self.policy_gradient.old_logprobs}"

    @model_validator(mode="after")
    def _comparisons_have_a_loss(self) -> RlSettings:
        if self.is_gradient:
            if self.preference is not None:
                raise ValueError(f"preference is of algorithm: online_dpo, and here it is {self.algorithm}; remove one")
        elif self.policy_gradient.reward_combination is not None and not self.group_relative:
            raise ValueError(
                "policy_gradient.reward_combination compares rewards within a prompt, and this loss takes each verdict "
                "by itself"
            )
        return self

    @model_validator(mode="after")
    def _endings_have_figures(self) -> RlSettings:
        metric = self.checkpoints.best_metric
        if metric != "reward" and not (self.checkpoints.keep_best or self.early_stopping):
            raise ValueError(
                f"checkpoints.best_metric: {metric} needs checkpoints.keep_best or early_stopping, which go by it"
            )
        if "kl_drift" in self.stop_on_alerts and not self.needs_reference:
            raise ValueError(
                "stop_on_alerts: distance is from a reference, and none is computed; give kl_coef, or remove it"
            )
        if (replay := self._replaying) is not None and not replay.count(self._batch):
            raise ValueError(
                f"replay.fraction: {replay.fraction:g} of {self._batch} groups is not one; raise it, or groups_per_step"
            )
        return self

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """As `tasks.read_rewards` reads them.

        Raises:
            RecipeError: there is no such reward or option.
        """
        return read_rewards(self.reward)

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared with each other."""
        return self.rule.group_relative

    @property
    def chosen(self) -> Algorithm:
        """The policy gradient with everything that this stage says of it."""
        found, parts = self.composed(self.max_new_tokens), self.policy_gradient
        credit, loss = found.credit, replace(found.loss, entropy_coef=parts.entropy_coef)
        match parts.kl_in:
            case "advantage":
                credit = replace(credit, advantage_kl_coef=self.kl_coef)
            case "reward":
                credit = replace(credit, reward_kl_coef=self.kl_coef)
            case "loss":
                estimator = parts.estimator
                assert estimator != "k1", "reading a recipe refuses k1 in the loss"
                loss = replace(loss, kl_coef=self.kl_coef, kl_estimator=estimator)
        return replace(found, credit=credit, loss=loss)

    @property
    def rule(self) -> CreditSettings | PairingSettings:
        """What becomes of graded groups."""
        if self.is_gradient:
            return self.chosen.credit
        pairing = self.compared.pairing(self.success_threshold)
        return replace(pairing, reward_combination=self.policy_gradient.reward_combination or "sum")

    @property
    def compared(self) -> OnlinePreference:
        """The loss of comparisons, where the algorithm has one."""
        return self.preference or OnlinePreference()

    @property
    def needs_reference(self) -> bool:
        """Whether responses are annotated with a reference."""
        if not self.is_gradient:
            return self.compared.preference.reference
        found = self.chosen
        return found.credit.needs_reference or found.loss.needs_reference

    @property
    def entropy_control(self) -> tuple[float, float, float] | None:
        """Target, rate and largest weight of the entropy; None: its weight is constant."""
        parts = self.policy_gradient
        if parts.entropy_target is None:
            return None
        return parts.entropy_target, parts.entropy_coef_lr or ENTROPY_COEF_LR, parts.highest_entropy_coef

    @property
    def stop_rule(self) -> StopRule:
        """What ends the stage early, and which weights it hands on."""
        alerts = frozenset(self.stop_on_alerts)
        return replace(super().stop_rule, best_metric=self.checkpoints.best_metric, rises=True, alerts=alerts)

    @property
    def _batch(self) -> int:
        """Groups of one batch of responses."""
        return self.groups_per_step * self.updates_per_batch

    @property
    def _replaying(self) -> ReplayRule | None:
        """How much is learned from again; None: nothing."""
        return None if self.replay is None else ReplayRule(self.replay.groups, self.replay.fraction)

    @property
    def draws_per_step(self) -> int:
        return self.groups_per_step

    @property
    def rollouts(self) -> RolloutSettings:
        """How a batch of responses is made."""
        return RolloutSettings(
            self.groups_per_step,
            self.responses_per_prompt,
            self.updates_per_batch,
            self.max_resamples,
            self.success_threshold,
            drops=self.group_relative,
            log_samples_every=self.log_samples_every,
            mask_truncated=self.policy_gradient.mask_truncated,
            replay=self._replaying,
        )

    @property
    def recomputes(self) -> bool:
        """Whether the trainer computes the log-probabilities of a batch before its first update."""
        return self.is_gradient and self.resolved_old == "recomputed"

    def params(self, seed: int) -> SamplingParams:
        """How tokens are chosen in training."""
        return SamplingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.sampling.temperature,
            stop=self.sampling.stop,
            seed=seed,
            **{name: getattr(self.sampling, name) for name in TRUNCATIONS},
        )
