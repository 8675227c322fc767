"""Settings of the optimizer and of the learning-rate schedule. Part of every stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.optim.settings import KINDS, OptimizerName, unused_options
from burnish.settings.aliases import OTHER_OPTIMIZERS, OTHER_SCHEDULES, named_here
from burnish.settings.numbers import BelowOne, Fraction, Positive
from burnish.train.schedule import SCHEDULE_OPTIONS, Schedule, ScheduleKind

DECAY_RATIO = 0.2
"""Default share of the steps in which wsd decays (arXiv 2405.18392 finds 10 to 20 % enough)."""
DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {"decay_ratio": DECAY_RATIO, **{entry.name: entry.default for entry in fields(Schedule)}}
)
"""Option of a schedule → its default."""


class OptimizerOptions(Settings):
    """The optimizer and its options, with gradient clipping, weight decay and averaging of weights."""

    kind: Annotated[OptimizerName, BeforeValidator(named_here(OTHER_OPTIMIZERS))] = "adamw"
    """Optimizer: adamw, adamw_8bit, adamw_paged, adamw_8bit_paged, muon, adafactor, schedule_free, lion, lion_8bit,
    sgd; docs/optimizers.md has their memory, options and packages."""
    betas: Annotated[tuple[BelowOne, BelowOne], Field(strict=False)] | None = None
    """Decay rates of the averages of gradients and of their squares; null: 0.9 and 0.999, for lion 0.9 and 0.99."""
    eps: Annotated[float, Field(gt=0)] | None = None
    """Number added to AdamW's denominator; null: 1e-8."""
    momentum: BelowOne | None = None
    """Momentum of muon (null: 0.95) and sgd (null: 0.9)."""
    nesterov: bool | None = None
    """Nesterov momentum; null: on for muon, off for sgd."""
    beta2_decay: Annotated[float, Field(lt=0)] | None = None
    """Exponent of adafactor's decay rate of squares, 1 - step^beta2_decay; null: -0.8."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay of matrices: a step subtracts this share times the learning rate (arXiv 1711.05101)."""
    no_weight_decay: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Patterns in the names of matrices without weight decay, such as [embed]; vectors never have it."""
    stochastic_rounding: bool = False
    """Updates bfloat16 weights by stochastic rounding instead of float32 master weights: saves four bytes per trained
    weight."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, such as 0.999; the average is evaluated and saved. null:
    no average."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradient clipping: maximum norm of the gradient; null: no clipping."""
    lr_multipliers: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Factors of the learning rate by pattern in parameters' names, such as {embed: 0.1}; factors of several matching
    patterns multiply."""
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor of the learning rate from each layer to the layer below it, such as 0.9; null: equal rates."""

    @model_validator(mode="after")
    def _options_are_of_the_optimizer(self) -> OptimizerOptions:
        if unused := unused_options(self.kind, dict(self)):
            raise ValueError(
                f"optimizer.{unused[0]} has no effect with optimizer.kind: {self.kind}, which has "
                f"{', '.join(KINDS[self.kind].options)}; remove it or name another optimizer"
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov is a kind of momentum, and optimizer.momentum is 0")
        return self

    @model_validator(mode="after")
    def _schedule_free_averages_itself(self) -> OptimizerOptions:
        given = {"ema_decay": self.ema_decay is not None, "stochastic_rounding": self.stochastic_rounding}
        for key, is_given in given.items():
            if self.kind == "schedule_free" and is_given:
                raise ValueError(f"schedule_free averages float32 weights itself: leave optimizer.{key} out")
        return self

    @model_validator(mode="after")
    def _patterns_are_patterns(self) -> OptimizerOptions:
        for pattern in (*self.lr_multipliers, *self.no_weight_decay):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        if self.no_weight_decay and not self.weight_decay:
            raise ValueError("optimizer.no_weight_decay has no effect without optimizer.weight_decay")
        return self


class ScheduleSettings(Settings):
    """Learning-rate schedule: its shape over the steps, as factors of the peak learning rate."""

    kind: Annotated[ScheduleKind | None, BeforeValidator(named_here(OTHER_SCHEDULES))] = None
    """Shape after the warmup: constant, linear, cosine, wsd, polynomial, inverse_sqrt, cosine_restarts; null: cosine,
    or constant with schedule_free."""
    warmup_ratio: Fraction = 0.03
    """Share of the steps with linear warmup."""
    decay_ratio: Fraction | None = None
    """Share of the steps with decay, for wsd; null: 0.2."""
    min_lr_ratio: Fraction | None = None
    """Final learning rate as a share of the peak; null: 0."""
    power: Annotated[float, Field(gt=0)] | None = None
    """Exponent of polynomial; null: 2."""
    cycles: Positive | None = None
    """Number of cycles of cosine_restarts; null: 2."""

    @property
    def given(self) -> Mapping[str, Any]:
        """Options of particular kinds of schedule that are not null."""
        options = set().union(*SCHEDULE_OPTIONS.values())
        return {key: value for key, value in self if key in options and value is not None}


def _of_kind(value: object) -> object:
    """Expands ``muon`` to ``{kind: muon}``."""
    return {"kind": value} if isinstance(value, str) else value


OptimizerField = Annotated[
    OptimizerOptions, BeforeValidator(_of_kind, json_schema_input_type=OptimizerName | OptimizerOptions)
]
ScheduleField = Annotated[
    ScheduleSettings, BeforeValidator(_of_kind, json_schema_input_type=ScheduleKind | ScheduleSettings)
]


NEAR_REFERENCE = 0.05
"""`OptimizationSettings.default_rate_share` of stages that stay near a reference (1e-6 in TRL's DPO and GRPO)."""


class OptimizationSettings(Settings):
    """Learning rate, optimizer and schedule."""

    default_rate_share: ClassVar[float] = 1.0
    """Default learning rate as a share of that of supervised fine-tuning."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 2e-5 for full weights, 2e-4 for LoRA, 2e-3 for adapters that train only vectors; a
    fifth of it for lion, fifty times it for adafactor."""
    optimizer: OptimizerField = OptimizerOptions()
    """The optimizer: its kind (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleField = ScheduleSettings()
    """The learning-rate schedule: its kind (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""

    @model_validator(mode="after")
    def _there_is_a_learning_rate(self) -> OptimizationSettings:
        if self.learning_rate is None and KINDS[self.optimizer.kind].rate is None:
            raise ValueError(f"{self.optimizer.kind} has no default learning rate; set learning_rate")
        return self

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> OptimizationSettings:
        kind = self.schedule_kind
        if self.optimizer.kind == "schedule_free" and kind != "constant":
            raise ValueError(f"schedule_free replaces schedule.kind: {kind}; leave schedule.kind out")
        for key in self.schedule.given:
            if key not in SCHEDULE_OPTIONS[kind]:
                kinds = ", ".join(name for name, options in SCHEDULE_OPTIONS.items() if key in options)
                raise ValueError(
                    f"schedule.{key} has no effect with schedule.kind: {kind}; remove it, or set schedule.kind: {kinds}"
                )
        if kind == "wsd" and self.schedule.warmup_ratio + self._decay_ratio > 1:
            raise ValueError(
                "schedule.warmup_ratio and schedule.decay_ratio are shares of one run: their sum is at most 1"
            )
        return self

    @property
    def _decay_ratio(self) -> float:
        return DECAY_RATIO if self.schedule.decay_ratio is None else self.schedule.decay_ratio

    @property
    def schedule_kind(self) -> ScheduleKind:
        """`schedule.kind` with its default resolved."""
        return self.schedule.kind or ("constant" if self.optimizer.kind == "schedule_free" else "cosine")

    def schedule_of(self, steps: int) -> Schedule:
        """The schedule of a stage with this number of steps."""
        return Schedule(
            self.schedule_kind,
            steps,
            warmup_steps=round(self.schedule.warmup_ratio * steps),
            decay_steps=round(self._decay_ratio * steps),
            **{key: value for key, value in self.schedule.given.items() if key != "decay_ratio"},
        )
