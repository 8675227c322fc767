"""Settings of the algorithm of a stage rl: its name, and settings that replace parts of it.

Settings without effect, and combinations that make no sense, are refused when the recipe is read.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.losses.policy.settings import (
    Aggregation,
    Cispo,
    Clip,
    NoClip,
    Old,
    PolicyGradientOptions,
    PpoClip,
    Sapo,
)
from burnish.settings.aliases import named_here
from burnish.settings.numbers import Positive
from burnish.settings.other_names import ALGORITHMS as ALGORITHM_NAMES
from burnish.settings.resolved import Resolved, resolved
from burnish.stages.on_policy.policy_loss import ENTROPY_COEF_LR
from burnish.stages.rl.algorithms import ALGORITHMS, Algorithm, algorithm
from burnish.stages.rl.policy_gradient import ClipMode, ClipOptions, PolicyGradientSettings

CLIPS: dict[ClipMode, Clip] = {"ppo": PpoClip(), "cispo": Cispo(), "sapo": Sapo(), "none": NoClip()}
OF_COMPARISONS = ("reward_combination",)
"""Keys of the group `policy_gradient` that also apply to online_dpo."""


class Replay(Settings):
    """Experience replay: graded groups of earlier steps are trained on again."""

    groups: Positive = 256
    """Size of the replay buffer, groups."""
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of a step's groups that come from the replay buffer."""


class AlgorithmSettings(Settings):
    """Algorithm and its parts."""

    algorithm: Annotated[str, BeforeValidator(named_here(ALGORITHM_NAMES))] = "grpo"
    """Algorithm: grpo, dr_grpo, dapo, gspo, cispo, sapo, gmpo, rloo, gdpo, reinforce_pp, or online_dpo with the key
    preference (docs/methods/grpo.md)."""
    kl_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL divergence from the reference, which is the policy at the start of the stage; 0: no penalty, and
    no reference is computed."""
    updates_per_batch: Positive = 1
    """Optimizer steps per batch of rollouts, each on its own groups_per_step."""
    replay: Replay | None = None
    """Experience replay of groups of earlier steps, such as {groups: 256, fraction: 0.25}; null: new groups only."""
    policy_gradient: PolicyGradientSettings = PolicyGradientSettings()
    """Settings that replace parts of the algorithm; not for online_dpo."""

    @model_validator(mode="after")
    def _algorithm_is_known(self) -> AlgorithmSettings:
        names = [*ALGORITHMS, "online_dpo"]
        if self.algorithm not in names:
            raise ValueError(f"algorithm: {self.algorithm} is unknown; choose from: {', '.join(names)}")
        parts = [name for name in PolicyGradientSettings.model_fields if name not in OF_COMPARISONS]
        if not self.is_gradient and (given := self.policy_gradient.changed(*parts)):
            raise ValueError(
                f"{given} has no effect: algorithm: online_dpo minimizes a preference loss, without advantages and "
                "ratios; remove it"
            )
        if not self.is_gradient and self.kl_coef != 0:
            raise ValueError(
                "kl_coef has no effect with algorithm: online_dpo; remove it; the beta of its loss is preference.beta"
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_not_exactly_one(self) -> AlgorithmSettings:
        if not self.is_gradient:
            return self
        given = self.policy_gradient.changed("ratio_level", "clip_mode", *ClipOptions.model_fields)
        if given and self.resolved_old == "policy":
            why = "policy_gradient.old_logprobs: policy" if self.is_repeated else "updates_per_batch: 1"
            raise ValueError(f"{given} has no effect with {why}, where the ratio is exactly 1; remove it")
        if self.policy_gradient.old_logprobs == "recomputed" and not self.is_repeated:
            raise ValueError(
                "policy_gradient.old_logprobs: recomputed equals old_logprobs: policy with updates_per_batch: 1 and no "
                "replay; remove it"
            )
        return self

    @model_validator(mode="after")
    def _bounds_are_those_of_the_clip(self) -> AlgorithmSettings:
        if not self.is_gradient:
            return self
        named, parts = ALGORITHMS[self.algorithm].loss, self.policy_gradient
        if parts.ratio_level not in (None, named.ratio_level) and parts.clip_mode is None:
            raise ValueError(
                f"policy_gradient.ratio_level: {parts.ratio_level} is not that of algorithm: {self.algorithm}, whose "
                "bounds are made for its own ratio; set policy_gradient.clip_mode too, with bounds if its defaults "
                "(ppo: 0.2) are not right"
            )
        has = {entry.name for entry in fields(self._plain_clip(named))}
        if wrong := next((name for name in parts.bounds if name not in has), None):
            raise ValueError(f"algorithm: {self.algorithm} has no policy_gradient.{wrong}; remove it")
        if parts.token_log_ratio_limit is not None and (parts.ratio_level or named.ratio_level) == "token":
            raise ValueError(
                "policy_gradient.token_log_ratio_limit needs ratio_level: sequence; for ratios of single tokens set "
                "clip_low and clip_high"
            )
        return self

    @model_validator(mode="after")
    def _correction_has_something_to_correct(self) -> AlgorithmSettings:
        corrects = self.policy_gradient.importance_correction is not None
        if corrects and self.is_gradient and self.resolved_old == "sampler":
            raise ValueError(
                "policy_gradient.importance_correction weights by π_old / sampler, and with old_logprobs: sampler "
                "these are the same; set policy_gradient.old_logprobs: recomputed (separate ratio and correction), or "
                "policy (correction only)"
            )
        return self

    @model_validator(mode="after")
    def _length_is_fixed(self) -> AlgorithmSettings:
        if self.is_gradient and self.policy_gradient.fixed_length is not None:
            named = ALGORITHMS[self.algorithm].loss.loss_aggregation
            if (self.policy_gradient.loss_aggregation or named) != "fixed":
                raise ValueError(
                    "policy_gradient.fixed_length has no effect without policy_gradient.loss_aggregation: fixed; "
                    "remove it"
                )
        return self

    @model_validator(mode="after")
    def _divergence_has_a_weight(self) -> AlgorithmSettings:
        parts = self.policy_gradient
        if self.kl_coef == 0 and (parts.kl_in, parts.estimator) != ("loss", "k3"):
            given = parts.changed("kl_in", "kl_estimator")
            raise ValueError(f"{given} has no effect with kl_coef: 0; set kl_coef, or remove it")
        return self

    @property
    def is_gradient(self) -> bool:
        """True for a policy gradient, False for a preference loss (online_dpo)."""
        return self.algorithm != "online_dpo"

    @property
    def is_repeated(self) -> bool:
        """Whether some groups are trained with other weights than those that sampled them."""
        return self.updates_per_batch > 1 or self.replay is not None

    @property
    def resolved_old(self) -> Old:
        """`policy_gradient.old_logprobs` with its default resolved."""
        return self.policy_gradient.old_logprobs or ("sampler" if self.is_repeated else "policy")

    def composed(self, max_new_tokens: int) -> Algorithm:
        """The named algorithm with the settings that replace its parts."""
        named, parts = algorithm(self.algorithm, max_new_tokens=max_new_tokens), self.policy_gradient
        credit = {name: getattr(parts, name) for name in ("baseline", "advantage_scale", "reward_combination")}
        loss = replace(named.loss, clip=self._clip(named.loss), old_logprobs=self.resolved_old)
        aggregation, length = self._aggregated(loss, max_new_tokens)
        level = parts.ratio_level or loss.ratio_level
        loss = replace(loss, ratio_level=level, loss_aggregation=aggregation, fixed_length=length)
        if (correction := parts.correction(level)) is not None:
            loss = replace(loss, importance_correction=correction)
        return replace(
            named,
            credit=replace(named.credit, **{name: value for name, value in credit.items() if value is not None}),
            loss=loss,
        )

    def resolved_parts(self, max_new_tokens: int) -> dict[str, Resolved]:
        """Key → value in force of the parts that the algorithm sets. Parts without effect are not among them: clips
        and levels of a ratio that is exactly 1."""
        if not self.is_gradient:
            return {}
        chosen, parts = self.composed(max_new_tokens), self.policy_gradient
        credit, loss, old = chosen.credit, chosen.loss, self.resolved_old
        values: dict[str, Any] = {
            "reward_combination": credit.reward_combination,
            "baseline": credit.baseline,
            "advantage_scale": credit.advantage_scale,
            "loss_aggregation": loss.loss_aggregation,
            "fixed_length": loss.fixed_length,
        }
        if old != "policy":
            mode = next(name for name, kind in CLIPS.items() if type(kind) is type(loss.clip))
            bounds = {name: value for name, value in asdict(loss.clip).items() if name in ClipOptions.model_fields}
            values |= {"ratio_level": loss.ratio_level, "clip_mode": mode, **bounds}
        further: dict[str, Any] = {"old_logprobs": old, "kl_estimator": parts.estimator if self.kl_coef else None}
        if (correction := loss.importance_correction) is not None:
            further |= {"importance_correction_level": correction.level}
            further |= {"importance_correction_max": correction.max_weight}
            further |= {"importance_correction_min": correction.min_weight or None}
        if parts.entropy_target is not None:
            further |= {"entropy_coef_lr": ENTROPY_COEF_LR, "entropy_coef_max": parts.highest_entropy_coef}
        named = resolved(values, f"algorithm: {self.algorithm}") | resolved(further, "default")
        return {f"policy_gradient.{key}": entry for key, entry in named.items()}

    def _plain_clip(self, loss: PolicyGradientOptions) -> Clip:
        """The clip without the recipe's bounds: the algorithm's clip keeps its bounds unless another clip is set."""
        mode = self.policy_gradient.clip_mode
        if mode is None or (isinstance(loss.clip, type(CLIPS[mode])) and self.policy_gradient.ratio_level is None):
            return loss.clip
        return CLIPS[mode]

    def _clip(self, loss: PolicyGradientOptions) -> Clip:
        clip, bounds = self._plain_clip(loss), self.policy_gradient.bounds
        return replace(clip, **bounds) if bounds else clip  # type: ignore[arg-type]

    def _aggregated(self, loss: PolicyGradientOptions, max_new_tokens: int) -> tuple[Aggregation, int | None]:
        """The aggregation, and its fixed length if it has one."""
        aggregation = self.policy_gradient.loss_aggregation or loss.loss_aggregation
        length = self.policy_gradient.fixed_length or loss.fixed_length or max_new_tokens
        return aggregation, length if aggregation == "fixed" else None
