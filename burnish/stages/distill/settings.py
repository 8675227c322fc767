"""Settings of distillation. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.losses.distillation.settings import DivergenceKind, DivergenceOptions
from burnish.losses.policy.settings import Old, PolicyGradientOptions
from burnish.model.settings import NamedModel
from burnish.rewards.registry import read_rewards
from burnish.rewards.reward import Reward
from burnish.rollouts.settings import RolloutSettings
from burnish.settings.adapter import Adapter
from burnish.settings.numbers import Positive
from burnish.settings.resolved import Resolved, resolved
from burnish.stages.distill.groups import (
    DistillCheckpoints,
    DistillEvaluation,
    DistillLoss,
    DistillPolicyGradient,
    OneTeacher,
    ResponseSource,
    TeacherSettings,
)
from burnish.stages.distill.teacher_needs import TeacherNeeds
from burnish.stages.on_policy.policy_loss import PolicyLossSettings
from burnish.stages.on_policy.settings import OnPolicySettings
from burnish.train.stop_rule import StopRule
from burnish.watch.settings import AlarmName

TOP_K = 32
SERVER_TOP_K = 20
"""The most that vLLM returns unless it is told otherwise (--max-logprobs)."""


class DistillSettings(OnPolicySettings):
    """Distillation: a student learns the token probabilities of a teacher, on its own responses (on-policy) or on given
    ones."""

    default_rate_share: ClassVar[float] = 0.5
    own_alerts: ClassVar[frozenset[AlarmName]] = frozenset({"teacher_gap"})
    compares_distributions: ClassVar[bool] = True
    takes_images: ClassVar[bool] = False
    usual: ClassVar[tuple[str, ...]] = (
        "teacher",
        "loss",
        "divergence",
        "response_source",
        "reward",
        "responses_per_prompt",
        "groups_per_step",
        "max_new_tokens",
        "epochs",
        "learning_rate",
        "tokens_per_microbatch",
        "chat_template",
        "eval_share",
        "eval_every",
        "adapter.kind",
    )

    teacher: OneTeacher | Annotated[tuple[OneTeacher, ...], Field(strict=False, min_length=1)]
    """Teacher: a run, a folder, a hub name, stage:NAME, or the address of a server; a mapping such as {model:
    runs/math, where: {source: math}}; or a list of these, of which each row has the first that fits."""
    loss: DistillLoss = "top_k"
    """Loss: top_k (divergence on the teacher's most probable tokens and the rest as one bucket), full (over the whole
    vocabulary), policy_gradient (reverse KL of the sampled tokens as an advantage), uld (sorted probabilities, for
    another tokenizer), cross_entropy (likelihood of the teacher's text)."""
    divergence: DivergenceKind | None = None
    """Divergence of top_k and full: reverse_kl (KL from student to teacher), forward_kl, jsd (generalized
    Jensen-Shannon, GKD); null: reverse_kl."""
    jsd_beta: Annotated[float, Field(gt=0, lt=1)] | None = None
    """β of divergence: jsd, between forward_kl (towards 0) and reverse_kl (towards 1); null: 0.5."""
    top_k: Positive | None = None
    """Number of the teacher's tokens of loss: top_k; null: 32, of a server 20."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Divisor of the logits of student and teacher in the divergence; null: sampling.temperature."""
    teacher_coef: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the teacher's part of the loss."""
    response_source: ResponseSource = "student"
    """Responses that are learned from: student (on-policy), teacher (written by the teacher once, before the first
    step), data (those of the rows)."""
    on_policy_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of the student's own responses in the loss, GKD's λ: below 1, each step also has the responses of as many
    rows of data, with the rest of the weight."""
    special_tokens: Literal["train", "mask"] = "train"
    """Special tokens in responses, the end token included: train, which needs a teacher that ends its turns with the
    same token, or mask."""
    reward: str | dict[str, Any] | list[str | dict[str, Any]] | None = None  # type: ignore[assignment]  # optional here
    """Reward, in the forms of a stage rl; measured, and with reward_coef also learned from; null: none."""
    reward_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the policy gradient of the rewards (reward minus the mean of its group); 0: rewards are measured
    only."""
    responses_per_prompt: Positive = 4
    """Number of responses sampled for each prompt: the group size."""
    groups_per_step: Positive = 16
    """Prompts per optimizer step, each with its responses (with response_source: data, rows): the batch size that
    determines the result."""
    updates_per_batch: Positive = 1
    """Optimizer steps per batch of responses, each on its own prompts; with several, all but the first are slightly
    off-policy."""
    policy_gradient: DistillPolicyGradient = DistillPolicyGradient()
    """Settings of the policy gradient, of loss: policy_gradient and of reward_coef."""
    evaluation: DistillEvaluation = DistillEvaluation()
    """Evaluation on held-out prompts."""
    checkpoints: DistillCheckpoints = DistillCheckpoints()
    """Checkpoints that are kept, and the weights of the final model."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 1e-5 for full weights, 1e-4 for an adapter."""

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> DistillSettings:
        if self.loss not in ("top_k", "full"):
            for key in ("divergence", "jsd_beta"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} has no effect with loss: {self.loss}; remove it, or set loss: top_k")
        if self.top_k is not None and self.loss != "top_k":
            raise ValueError(f"top_k has no effect with loss: {self.loss}; remove it, or set loss: top_k")
        if self.jsd_beta is not None and self.divergence != "jsd":
            raise ValueError("jsd_beta has no effect without divergence: jsd; remove it, or set divergence: jsd")
        if self.temperature is not None and self.loss not in ("top_k", "full", "uld"):
            raise ValueError(
                f"temperature has no effect with loss: {self.loss}, whose logits are divided by sampling.temperature; "
                "remove it"
            )
        if self.teacher_coef != 1 and self.loss == "cross_entropy":
            raise ValueError(
                "teacher_coef has no effect with loss: cross_entropy, the only part of the loss; remove it"
            )
        if self.reward_coef and self.reward is None:
            raise ValueError("reward_coef needs a reward; set reward, or remove it")
        if not self.has_policy_gradient and self.policy_gradient != DistillPolicyGradient():
            raise ValueError(
                f"policy_gradient has no effect with loss: {self.loss} and reward_coef: 0; remove it, or set loss: "
                "policy_gradient"
            )
        return self

    @model_validator(mode="after")
    def _keys_of_rewards_have_an_effect(self) -> DistillSettings:
        of_rewards = ("reward_workers", "success_threshold", "curriculum")
        without = f"without {'a reward' if self.reward is None else 'reward_coef'}"
        if self.reward is None and (key := self._changed(*of_rewards)):
            raise ValueError(f"{key} has no effect {without}; remove it, or set reward")
        if not self.reward_coef and (key := self._changed("reward_shaping")):
            raise ValueError(f"{key} changes rewards that are learned from, and has no effect {without}; remove it")
        if stepped := next((reward.key for reward in self.rewards if reward.credits_steps), None):
            raise ValueError(f"reward {stepped}: credit: step is of a stage rl; set credit: response")
        return self

    def _changed(self, *keys: str) -> str | None:
        """The first of these keys whose value is not the default."""
        fields = type(self).model_fields
        return next((key for key in keys if getattr(self, key) != fields[key].default), None)

    @model_validator(mode="after")
    def _responses_fit_the_loss(self) -> DistillSettings:
        if self.loss == "cross_entropy" and self.response_source != "teacher":
            raise ValueError(
                f"loss: cross_entropy learns text of the teacher, and here response_source: {self.response_source}; "
                "set response_source: teacher, or train on the responses of the data in a stage sft"
            )
        if self.response_source == "student":
            return self
        given = {
            "loss: policy_gradient": self.loss == "policy_gradient",
            "loss: uld": self.loss == "uld",
            "reward_coef": self.reward_coef > 0,
            "on_policy_fraction": self.on_policy_fraction < 1,
            "updates_per_batch": self.updates_per_batch > 1,
        }
        if key := next((key for key, is_given in given.items() if is_given), None):
            raise ValueError(
                f"{key} needs responses of the student, and here response_source: {self.response_source}; set "
                f"response_source: student, or remove {key.split(':')[0]}"
            )
        if key := self._changed("curriculum", "log_samples_every"):
            raise ValueError(f"{key} is about responses of the student, and has no effect here; remove it")
        if self.response_source == "data" and self.responses_per_prompt != 4:
            raise ValueError("responses_per_prompt has no effect with response_source: data; remove it")
        if self.reward is not None and not self.has_held_out:
            raise ValueError(
                f"reward grades responses to held-out prompts where response_source: {self.response_source}, and there "
                "are none; set eval_data or eval_share, or remove it"
            )
        return self

    @model_validator(mode="after")
    def _teachers_fit_the_loss(self) -> DistillSettings:
        needs = TeacherNeeds(
            self.loss,
            self.response_source,
            self.resolved_temperature,
            self.reward_coef,
            self.on_policy_fraction,
        )
        needs.require_all(self.teachers)
        return self

    @model_validator(mode="after")
    def _fraction_is_of_divergences(self) -> DistillSettings:
        if self.on_policy_fraction < 1 and self.loss not in ("top_k", "full"):
            raise ValueError(
                f"on_policy_fraction below 1 adds responses of the data, which loss: {self.loss} cannot learn from; "
                "set loss: top_k"
            )
        if self.on_policy_fraction < 1 and (len(self.teachers) > 1 or self.teachers[0].has_context):
            raise ValueError("on_policy_fraction below 1 takes one teacher without context; remove it")
        if self.reward_coef and self.resolved_temperature != self.sampling.temperature:
            raise ValueError(
                f"temperature: {self.resolved_temperature:g} divides the logits of the policy gradient of the rewards "
                f"too, whose responses were sampled at {self.sampling.temperature:g}; remove temperature or reward_coef"
            )
        if self.loss == "policy_gradient" and (truncation := self.sampling.truncation):
            raise ValueError(
                f"sampling.{truncation} makes the sampling distribution differ from the student's, whose probabilities "
                f"loss: policy_gradient compares; remove sampling.{truncation}, or set loss: top_k"
            )
        return self

    @model_validator(mode="after")
    def _ratios_have_an_effect(self) -> DistillSettings:
        parts, is_single = self.policy_gradient, self.updates_per_batch == 1
        if is_single and (given := parts.changed("clip_low", "clip_high")):
            raise ValueError(f"{given} has no effect where the ratio is exactly 1 (updates_per_batch: 1); remove it")
        if is_single and parts.old_logprobs in ("recomputed", "sampler"):
            raise ValueError(
                f"policy_gradient.old_logprobs: {parts.old_logprobs} equals policy with one update per batch; remove it"
            )
        if not is_single and parts.old_logprobs == "policy" and parts.importance_correction is None:
            raise ValueError(
                f"policy_gradient.old_logprobs: policy takes the ratio as 1, and a batch has {self.updates_per_batch} "
                "updates, after the first of which it is not; remove it"
            )
        parts.require_consistent(self.resolved_old)
        if self.loss != "policy_gradient" and (given := parts.changed("entropy_coef", "entropy_target")):
            raise ValueError(
                f"{given}: an entropy bonus is a part of loss: policy_gradient, and here it is loss: "
                f"{self.loss}; remove it, or set loss: policy_gradient"
            )
        return self

    @model_validator(mode="after")
    def _alerts_have_metrics(self) -> DistillSettings:
        of_rewards = {"zero_reward", "ungraded", "reward_hacking", "equal_rewards"}
        given = set(self.stop_on_alerts)
        if "equal_rewards" in given:
            raise ValueError("stop_on_alerts: equal_rewards: a student learns where all rewards are equal; remove it")
        if self.reward is None and (alert := next(iter(sorted(given & of_rewards)), None)):
            raise ValueError(f"stop_on_alerts: {alert} needs a reward; remove it")
        if "teacher_gap" in given and not (self.has_held_out and self._measures_teacher):
            raise ValueError(
                "stop_on_alerts: teacher_gap needs held-out prompts (eval_data or eval_share, and "
                "evaluation.teacher_prompts), and a teacher that is no table"
            )
        of_rollouts = given - {"teacher_gap"}
        if self.response_source != "student" and of_rollouts:
            raise ValueError(
                f"stop_on_alerts: {min(of_rollouts)} is about responses of the student, and here response_source: "
                f"{self.response_source}; remove it"
            )
        is_used = self.checkpoints.keep_best or self.early_stopping
        if is_used and self.checkpoints.best_metric == "teacher_kl" and not self._measures_teacher:
            raise ValueError(
                "checkpoints.best_metric: teacher_kl needs evaluation.teacher_prompts, and a teacher that is no table; "
                "set them, or another best_metric"
            )
        return self

    @property
    def _measures_teacher(self) -> bool:
        """Whether evaluations compare student and teacher, if there are held-out prompts."""
        return bool(self.evaluation.teacher_prompts) and all(teacher.kind != "tables" for teacher in self.teachers)

    def require_possible(self, adapter: Adapter, dtype: Any) -> None:
        super().require_possible(adapter, dtype)
        if self.loss != "full" or all(teacher.kind != "student" for teacher in self.teachers):
            return
        parts = {
            "adapter.kind: full": adapter.kind == "full",
            "adapter.modules_to_save": bool(adapter.modules_to_save),
            "add_tokens": bool(self.tokens_to_add),
        }
        if trained := next((key for key, trains in parts.items() if trains), None):
            raise ValueError(
                "loss: full compares with the output head of the teacher, and that of teacher.model: student changes "
                f"in every step with {trained}; set loss: top_k, or train an adapter that leaves the head as it is"
            )

    @property
    def teachers(self) -> tuple[TeacherSettings, ...]:
        """The teachers, in their order."""
        return (self.teacher,) if isinstance(self.teacher, TeacherSettings) else self.teacher

    @property
    def rewards(self) -> tuple[Reward, ...]:
        return () if self.reward is None else read_rewards(self.reward)

    @property
    def named_models(self) -> Sequence[NamedModel]:
        teachers = [
            NamedModel("teacher.model", str(teacher.model), ("language_model",), reads="any_text")
            for teacher in self.teachers
            if teacher.kind == "model"
        ]
        return [*super().named_models, *teachers]

    @property
    def has_policy_gradient(self) -> bool:
        """Whether responses have advantages."""
        return self.loss == "policy_gradient" or self.reward_coef > 0

    @property
    def resolved_temperature(self) -> float:
        """`temperature` with its default resolved."""
        return self.sampling.temperature if self.temperature is None else self.temperature

    @property
    def compared(self) -> DivergenceOptions | None:
        """The divergence that scoring computes; None: the loss has none."""
        if self.loss == "uld":
            return DivergenceOptions(support="other_vocabulary")
        if self.loss not in ("top_k", "full"):
            return None
        beta = 0.5 if self.jsd_beta is None else self.jsd_beta
        return DivergenceOptions(self.divergence or "reverse_kl", self.loss, beta)

    @property
    def resolved_top_k(self) -> int:
        """`top_k` with its default resolved."""
        return self.top_k or (SERVER_TOP_K if any(teacher.kind == "server" for teacher in self.teachers) else TOP_K)

    @property
    def resolved_old(self) -> Old:
        """`policy_gradient.old_logprobs` with its default resolved."""
        return self.policy_gradient.old_logprobs or ("sampler" if self.updates_per_batch > 1 else "policy")

    @property
    def gradient(self) -> PolicyGradientOptions:
        """Settings of the policy gradient."""
        return self.policy_gradient.options(self.resolved_old, self.max_new_tokens)

    @property
    def loss_parts(self) -> PolicyLossSettings:
        return self.policy_gradient

    @property
    def needs_reference(self) -> bool:
        return False

    @property
    def recomputes(self) -> bool:
        return self.has_policy_gradient and self.resolved_old == "recomputed"

    @property
    def learns_by_ratios(self) -> bool:
        return self.has_policy_gradient and self.resolved_old == "sampler"

    @property
    def corrects_rounding_alone(self) -> bool:
        corrects = self.policy_gradient.importance_correction is not None
        return corrects and (self.resolved_old == "recomputed" or self.updates_per_batch == 1)

    @property
    def rollouts(self) -> RolloutSettings:
        return replace(
            super().rollouts,
            updates_per_batch=self.updates_per_batch,
            max_resamples=1,
            drops=False,
            learns_ungraded=True,
        )

    @property
    def best_metrics(self) -> Sequence[str]:
        return ["teacher_kl", *(super().best_metrics if self.reward is not None else [])]

    @property
    def stop_rule(self) -> StopRule:
        return replace(super().stop_rule, rises=self.checkpoints.best_metric != "teacher_kl")

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        values: dict[str, Any] = {}
        if (compared := self.compared) is not None:
            values["temperature"] = self.resolved_temperature
            if self.loss != "uld":
                values["divergence"] = compared.kind
            if compared.kind == "jsd":
                values["jsd_beta"] = compared.jsd_beta
        if self.loss == "top_k":
            values["top_k"] = self.resolved_top_k
        if self.has_policy_gradient:
            values |= {"policy_gradient.old_logprobs": self.resolved_old}
            values |= {"policy_gradient.loss_aggregation": self.gradient.loss_aggregation}
        return {**super().resolved_defaults, **resolved(values, "default")}
