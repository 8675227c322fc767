"""Settings of PPO with a critic. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.credit.settings import GaeSettings, KlEstimator
from burnish.losses.policy.settings import Old, PolicyGradientOptions
from burnish.model.settings import STAGE_PREFIX, DtypeName, NamedModel
from burnish.rollouts.settings import RolloutSettings
from burnish.settings.adapter import Adapter
from burnish.settings.numbers import Positive
from burnish.settings.resolved import Resolved, resolved
from burnish.settings.stage import optimization_defaults
from burnish.stages.on_policy.policy_loss import ENTROPY_COEF_LR, PolicyLossSettings
from burnish.stages.on_policy.settings import OnPolicySettings
from burnish.stages.ppo.groups import POLICY_MODEL, CriticSettings, GaeOptions, PpoLossSettings, PtxSettings
from burnish.watch.settings import AlarmName

KL_COEF_GAIN = 0.1


class PpoSettings(OnPolicySettings):
    """PPO: reinforcement learning with a learned value function (a critic), and the KL divergence from the reference in
    the reward of every token."""

    own_alerts: ClassVar[frozenset[AlarmName]] = frozenset({"critic_error"})
    takes_images: ClassVar[bool] = False
    usual: ClassVar[tuple[str, ...]] = (
        "reward",
        "kl_coef",
        "responses_per_prompt",
        "groups_per_step",
        "minibatches_per_epoch",
        "epochs_per_batch",
        "max_new_tokens",
        "learning_rate",
        "critic.model",
        "critic.learning_rate",
        "gae.gae_lambda",
        "epochs",
        "eval_share",
        "eval_every",
        "adapter.kind",
    )

    responses_per_prompt: Positive = 4
    """Number of responses sampled for each prompt."""
    minibatches_per_epoch: Positive = 2
    """Optimizer steps of one pass over a batch of rollouts, which has minibatches_per_epoch · groups_per_step
    prompts."""
    epochs_per_batch: Positive = 2
    """Number of passes over a batch of rollouts; its prompts are reshuffled for each."""
    kl_coef: Annotated[float, Field(ge=0)] = 0.05
    """Weight of the KL divergence from the reference, which is the policy at the start of the stage, in the reward of
    every token; 0: no penalty, and no reference is computed."""
    kl_estimator: KlEstimator = "k1"
    """Estimator of the KL divergence: k1 (log-ratio; its policy gradient is that of the divergence), k2, k3 (never
    negative, smaller variance, another gradient: docs/methods/ppo.md)."""
    kl_control: Literal["fixed", "adaptive"] = "fixed"
    """Control of kl_coef: fixed, or adaptive (proportional control that keeps kl_target)."""
    kl_target: Annotated[float, Field(gt=0)] | None = None
    """KL divergence of a response, nats, that kl_control: adaptive keeps, such as 6."""
    kl_coef_gain: Annotated[float, Field(gt=0, le=1)] | None = None
    """Gain of kl_control: adaptive; a batch changes kl_coef by at most a fifth of the gain, 2 % with 0.1. null: 0.1."""
    kl_limit: Annotated[float, Field(gt=0)] | None = None
    """Early stop of a batch: once the policy is further than this from the one that sampled the batch, nats per token,
    such as 0.02, the remaining steps of the batch train the critic only; null: no limit."""
    gae: GaeOptions = GaeOptions()
    """Generalized advantage estimation."""
    policy_gradient: PpoLossSettings = PpoLossSettings()
    """Settings of the policy's loss."""
    critic: CriticSettings = CriticSettings()
    """The critic."""
    ptx: PtxSettings | None = None
    """PPO-ptx: likelihood of given text beside the policy gradient, such as {data: demos.jsonl, coef: 1}; null:
    none."""

    @model_validator(mode="after")
    def _kl_can_be_controlled(self) -> PpoSettings:
        if self.kl_control == "adaptive":
            if self.kl_target is None:
                raise ValueError("kl_control: adaptive needs kl_target, nats of KL divergence of a response, such as 6")
            if self.kl_coef == 0:
                raise ValueError("kl_control: adaptive multiplies kl_coef, and 0 stays 0; set the initial kl_coef")
        given = {"kl_target": self.kl_target, "kl_coef_gain": self.kl_coef_gain}
        for key, value in given.items():
            if value is not None and self.kl_control == "fixed":
                raise ValueError(f"{key} has no effect with kl_control: fixed; set kl_control: adaptive, or remove it")
        if self.kl_coef == 0 and self.kl_estimator != "k1":
            raise ValueError(
                f"kl_estimator: {self.kl_estimator} has no effect with kl_coef: 0; set kl_coef, or remove it"
            )
        return self

    @model_validator(mode="after")
    def _batches_are_whole(self) -> PpoSettings:
        steps = self.steps_per_batch
        sizes = f"epochs_per_batch: {self.epochs_per_batch} · minibatches_per_epoch: {self.minibatches_per_epoch}"
        for key, value in (
            ("max_steps", self.max_steps),
            ("critic.value_warmup_steps", self.critic.value_warmup_steps),
        ):
            if value is not None and value % steps:
                near = [number for number in (value // steps * steps, (value // steps + 1) * steps) if number]
                raise ValueError(
                    f"{key}: {value} ends within a batch of rollouts, which has {steps} steps ({sizes}); set "
                    f"{' or '.join(map(str, near))}"
                )
        if self.max_steps is not None and self.critic.value_warmup_steps >= self.max_steps:
            raise ValueError(
                f"critic.value_warmup_steps: {self.critic.value_warmup_steps} are all steps of the stage (max_steps: "
                f"{self.max_steps}), so that the policy is never trained; lower them"
            )
        return self

    @model_validator(mode="after")
    def _ratios_have_an_effect(self) -> PpoSettings:
        parts = self.policy_gradient
        given = parts.changed("clip_low", "clip_high", "dual_clip")
        if given and self.resolved_old == "policy":
            raise ValueError(f"{given} has no effect where the ratio is exactly 1 ({self._why_one}); remove it")
        if self.critic.value_clip is not None and self.steps_per_batch == 1:
            raise ValueError(
                "critic.value_clip has no effect with one step per batch, whose values are the old ones; remove it"
            )
        if parts.old_logprobs == "policy" and self.steps_per_batch > 1 and parts.importance_correction is None:
            raise ValueError(
                f"policy_gradient.old_logprobs: policy takes the ratio as 1, and a batch has {self.steps_per_batch} "
                "steps, after the first of which it is not; remove it, or set policy_gradient.importance_correction"
            )
        if self.kl_limit is not None and self.resolved_old == "policy":
            raise ValueError(f"kl_limit has no effect where the ratio is exactly 1 ({self._why_one}); remove it")
        if parts.old_logprobs == "recomputed" and self.steps_per_batch == 1:
            raise ValueError(
                "policy_gradient.old_logprobs: recomputed equals policy with one step per batch; remove it"
            )
        parts.require_consistent(self.resolved_old)
        if parts.entropy_target is not None and parts.success_nll_coef:
            raise ValueError(
                "policy_gradient.entropy_target changes the weight of the entropy in the policy gradient alone; remove "
                "policy_gradient.success_nll_coef, or set entropy_coef"
            )
        return self

    @model_validator(mode="after")
    def _masked_responses_have_no_end(self) -> PpoSettings:
        given = {"reward_shaping.missing_end_penalty": self.reward_shaping.missing_end_penalty}
        given |= {"gae.bootstrap_truncated": self.gae.bootstrap_truncated}
        if key := next((key for key, value in given.items() if value and self.policy_gradient.mask_truncated), None):
            raise ValueError(
                f"{key} is about truncated responses, which policy_gradient.mask_truncated leaves out; remove one of "
                "them"
            )
        return self

    @model_validator(mode="after")
    def _sampling_is_the_policy(self) -> PpoSettings:
        if (truncation := self.sampling.truncation) and (self.kl_coef or self.resolved_old != "policy"):
            raise ValueError(
                f"sampling.{truncation} makes the sampling distribution differ from the policy's, whose ratios and KL "
                f"divergence PPO computes; remove sampling.{truncation}"
            )
        return self

    def require_possible(self, adapter: Adapter, dtype: DtypeName) -> None:
        super().require_possible(adapter, dtype)
        on_base = self.critic.model == POLICY_MODEL or self.critic.model.startswith(STAGE_PREFIX)
        if adapter.kind != "full" and adapter.init in ("pissa", "olora") and on_base:
            raise ValueError(
                f"adapter.init: {adapter.init}: the critic is a further adapter on the policy's base, which begins as "
                "a plain LoRA; remove adapter.init, or name a folder or a hub model in critic.model"
            )

    @property
    def named_models(self) -> Sequence[NamedModel]:
        name = self.critic.model
        own = [] if name == POLICY_MODEL else [NamedModel("critic.model", name, ("reward_model", "language_model"))]
        return [*super().named_models, *own]

    @property
    def _why_one(self) -> str:
        """The keys that make ratios exactly 1."""
        if self.policy_gradient.old_logprobs == "policy":
            return "policy_gradient.old_logprobs: policy"
        return "epochs_per_batch: 1 and minibatches_per_epoch: 1"

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps of a batch of rollouts."""
        return self.epochs_per_batch * self.minibatches_per_epoch

    @property
    def resolved_old(self) -> Old:
        """`policy_gradient.old_logprobs` with its default resolved."""
        return self.policy_gradient.old_logprobs or ("sampler" if self.steps_per_batch > 1 else "policy")

    @property
    def loss_parts(self) -> PolicyLossSettings:
        return self.policy_gradient

    @property
    def needs_reference(self) -> bool:
        return self.kl_coef > 0

    @property
    def recomputes(self) -> bool:
        return self.resolved_old == "recomputed"

    @property
    def learns_by_ratios(self) -> bool:
        return self.resolved_old == "sampler"

    @property
    def corrects_rounding_alone(self) -> bool:
        corrects = self.policy_gradient.importance_correction is not None
        return corrects and (self.resolved_old == "recomputed" or self.steps_per_batch == 1)

    @property
    def credit(self) -> GaeSettings:
        """Settings of the credit rule."""
        options = self.gae.model_dump()
        options["gae_lambda"] = 0.95 if self.gae.gae_lambda is None else self.gae.gae_lambda
        gain = self.kl_coef_gain or KL_COEF_GAIN
        return GaeSettings(
            **options,
            kl_coef=self.kl_coef,
            kl_estimator=self.kl_estimator,
            kl_target=self.kl_target,
            kl_coef_gain=gain,
            kl_warmup_batches=self.critic.value_warmup_steps // self.steps_per_batch,
        )

    @property
    def gradient(self) -> PolicyGradientOptions:
        """Settings of the policy's loss, without the likelihood of right responses."""
        parts = self.policy_gradient
        aggregation = parts.loss_aggregation or "token"
        return PolicyGradientOptions(
            clip=parts.clip,
            old_logprobs=self.resolved_old,
            loss_aggregation=aggregation,
            fixed_length=(parts.fixed_length or self.max_new_tokens) if aggregation == "fixed" else None,
            importance_correction=parts.correction("token"),
            entropy_coef=parts.entropy_coef,
        )

    @property
    def ptx_rows(self) -> int:
        """Rows of PPO-ptx in each step of the policy; 0: there are none."""
        return 0 if self.ptx is None else self.ptx.sequences_per_step

    @property
    def rollouts(self) -> RolloutSettings:
        return replace(
            super().rollouts,
            updates_per_batch=self.minibatches_per_epoch,
            epochs_per_batch=self.epochs_per_batch,
            max_resamples=1,
            drops=False,
            success_weights=self.policy_gradient.success_nll_coef > 0,
        )

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        gradient, parts = self.gradient, self.policy_gradient
        values: dict[str, Any] = {"policy_gradient.old_logprobs": gradient.old_logprobs}
        values |= {"policy_gradient.loss_aggregation": gradient.loss_aggregation}
        if gradient.fixed_length is not None:
            values["policy_gradient.fixed_length"] = gradient.fixed_length
        if gradient.old_logprobs != "policy":
            values |= {f"policy_gradient.{key}": getattr(parts.clip, key) for key in ("clip_low", "clip_high")}
        if (correction := gradient.importance_correction) is not None:
            values |= {"policy_gradient.importance_correction_level": correction.level}
            values |= {"policy_gradient.importance_correction_max": correction.max_weight}
            values |= {"policy_gradient.importance_correction_min": correction.min_weight or None}
        if parts.entropy_target is not None:
            values |= {"policy_gradient.entropy_coef_lr": ENTROPY_COEF_LR}
            values |= {"policy_gradient.entropy_coef_max": parts.highest_entropy_coef}
        if self.gae.length_adaptive_alpha is None:
            values["gae.gae_lambda"] = self.credit.gae_lambda
        if self.kl_control == "adaptive":
            values["kl_coef_gain"] = self.credit.kl_coef_gain
        critic = {f"critic.{key}": entry for key, entry in optimization_defaults(self.critic).items()}
        return {**super().resolved_defaults, **critic, **resolved(values, "default")}
