"""Settings of reinforcement learning. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import model_validator

from burnish.config.text import put
from burnish.credit.settings import CreditSettings, PairingSettings
from burnish.rollouts.settings import ReplayRule, RolloutSettings
from burnish.settings.numbers import Positive
from burnish.settings.preference_loss import OnlinePreference
from burnish.settings.resolved import Resolved, resolved
from burnish.stages.on_policy.policy_loss import PolicyLossSettings
from burnish.stages.on_policy.settings import OnPolicySettings
from burnish.stages.rl.algorithm_settings import AlgorithmSettings
from burnish.stages.rl.algorithms import Algorithm


class RlSettings(OnPolicySettings, AlgorithmSettings):
    """Reinforcement learning: the policy generates responses, rewards grade them, and better ones become more
    probable."""

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

    preference: OnlinePreference | None = None
    """With algorithm: online_dpo, the preference loss and its pairs, such as {loss: ipo, beta: 0.2}; null: dpo on the
    best and the worst response."""
    dynamic_sampling: bool | None = None
    """Dynamic sampling: groups whose rewards are all equal are replaced by further prompts. null: where rewards alone
    have a gradient; with kl_coef or an entropy bonus such groups are trained on, for these terms."""
    max_resamples: Positive = 4
    """With dynamic sampling, maximum number of prompts to sample per group of the batch. 1: groups are dropped without
    replacement."""

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
    def _normalization_has_an_effect(self) -> RlSettings:
        shaping = self.reward_shaping
        others = shaping.clip is not None or shaping.missing_end_penalty or shaping.length_penalty_coef
        divides = not self.is_gradient or self.chosen.credit.advantage_scale != "none"
        if shaping.normalize != "none" and divides and not others:
            raise ValueError(
                f"reward_shaping.normalize: {shaping.normalize} has no effect: algorithm: {self.algorithm} normalizes "
                "or compares rewards itself; remove it, or set policy_gradient.advantage_scale: none"
            )
        return self

    @model_validator(mode="after")
    def _replay_has_groups(self) -> RlSettings:
        if (replay := self._replaying) is not None and not replay.count(self._batch):
            raise ValueError(
                f"replay.fraction: {replay.fraction:g} of {self._batch} groups is less than one; raise it, or "
                "groups_per_step"
            )
        return self

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
        if not self.is_gradient:
            return self.compared.preference.reference
        chosen = self.chosen
        return chosen.credit.needs_reference or chosen.loss.needs_reference

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
    def rollouts(self) -> RolloutSettings:
        return replace(
            super().rollouts,
            updates_per_batch=self.updates_per_batch,
            max_resamples=self.max_resamples,
            drops=self.replaces_equal,
            replay=self._replaying,
        )

    @property
    def corrects_rounding_alone(self) -> bool:
        corrects = self.policy_gradient.importance_correction is not None
        return corrects and (self.resolved_old == "recomputed" or not self.is_repeated)

    @property
    def loss_parts(self) -> PolicyLossSettings:
        return self.policy_gradient

    @property
    def learns_by_ratios(self) -> bool:
        return not self.is_gradient or self.resolved_old == "sampler"

    @property
    def recomputes(self) -> bool:
        return self.is_gradient and self.resolved_old == "recomputed"
