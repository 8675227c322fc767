"""What a user may say of how weights are updated: the optimizer and its schedule. Part of every stage that trains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.optim.settings import KINDS, OptimizerName, unused_options
from burnish.schedule import SCHEDULE_OPTIONS, Schedule, ScheduleKind
from burnish.settings.aliases import OTHER_OPTIMIZERS, OTHER_SCHEDULES, named_here
from burnish.settings.numbers import BelowOne, Fraction, Positive

DECAY_RATIO = 0.2
"""Share of the steps that wsd decays, if the recipe does not say (arXiv 2405.18392 finds 10 to 20 % enough)."""


class OptimizerOptions(Settings):
    """The optimizer, its options, and what bounds, averages and decays its updates."""

    kind: Annotated[OptimizerName, BeforeValidator(named_here(OTHER_OPTIMIZERS))] = "adamw"
    """adamw, adamw_8bit, adamw_paged, adamw_8bit_paged, muon, adafactor, schedule_free, lion, lion_8bit, sgd; their
    memory, options and packages are in docs/optimizers.md."""
    betas: Annotated[tuple[BelowOne, BelowOne], Field(strict=False)] | None = None
    """Averages of gradients and squares; null: 0.9 and 0.999, lion's 0.9 and 0.99."""
    eps: Annotated[float, Field(gt=0)] | None = None
    """Addition to AdamW's denominator; null: 1e-8."""
    momentum: BelowOne | None = None
    """Of muon (null: 0.95) and sgd (null: 0.9)."""
    nesterov: bool | None = None
    """Nesterov's form of the momentum; null: muon has it, sgd not."""
    beta2_decay: Annotated[float, Field(lt=0)] | None = None
    """Adafactor averages squares with 1 - step^beta2_decay; null: -0.8."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Share of each matrix that a step takes away, times the learning rate (decoupled, arXiv 1711.05101)."""
    no_weight_decay: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Patterns in the names of matrices that do not decay, such as [embed]; vectors never do."""
    stochastic_rounding: bool = False
    """Updates bfloat16 weights without float32 twins, rounded by chance: four bytes less for each trained weight."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of an average of the weights that stays from step to step, such as 0.999. The average is what is evaluated
    and saved; null: none is kept."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradient clipping: largest norm of the gradient; null: no clipping."""
    lr_multipliers: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Factors of the learning rate by patterns in the names of parameters, such as {embed: 0.1}; where several match,
    they multiply."""
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor of the learning rate from one layer to the one before it, such as 0.9; null: all learn alike."""

    @model_validator(mode="after")
    def _options_are_of_the_optimizer(self) -> OptimizerOptions:
        if unused := unused_options(self.kind, dict(self)):
            raise ValueError(
                f"optimizer.{unused[0]} has no effect with optimizer.kind: {self.kind}, which has "
                f"{', '.join(KINDS[self.kind].options)}; remove it or name another optimizer"
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("optimizer.nesterov is a form of the momentum, and optimizer.momentum is 0")
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
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        if self.no_weight_decay and not self.weight_decay:
            raise ValueError("optimizer.no_weight_decay has no effect without optimizer.weight_decay")
        return self


class ScheduleSettings(Settings):
    """How the learning rate changes over the steps."""

    kind: Annotated[ScheduleKind | None, BeforeValidator(named_here(OTHER_SCHEDULES))] = None
    """Shape after the warm-up: constant, linear, cosine, wsd, polynomial, inverse_sqrt, cosine_restarts; null: cosine,
    and constant with schedule_free."""
    warmup_ratio: Fraction = 0.03
    """Share of the steps that warm up."""
    decay_ratio: Fraction | None = None
    """Share of the steps that decay, for wsd alone; null: 0.2."""
    min_lr_ratio: Fraction | None = None
    """Share of the peak rate at which the schedule ends; null: 0."""
    power: Annotated[float, Field(gt=0)] | None = None
    """Of polynomial; null: 2."""
    cycles: Positive | None = None
    """Cosines of cosine_restarts; null: 2."""

    @property
    def given(self) -> Mapping[str, Any]:
        """Those that belong to some kinds alone, as far as they are not null."""
        options = set().union(*SCHEDULE_OPTIONS.values())
        return {key: value for key, value in self if key in options and value is not None}


def _of_kind(value: object) -> object:
    """``muon`` stands for ``{kind: muon}``."""
    return {"kind": value} if isinstance(value, str) else value


OptimizerField = Annotated[
    OptimizerOptions, BeforeValidator(_of_kind, json_schema_input_type=OptimizerName | OptimizerOptions)
]
ScheduleField = Annotated[
    ScheduleSettings, BeforeValidator(_of_kind, json_schema_input_type=ScheduleKind | ScheduleSettings)
]


class OptimizationSettings(Settings):
    """The optimizer and its schedule."""

    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 2e-5 for full weights, 2e-4 for LoRA, 2e-3 where only vectors learn; lion a fifth of
    it, adafactor fifty times it."""
    optimizer: OptimizerField = OptimizerOptions()
    """The optimizer: its kind alone (muon), or a mapping with its options ({kind: muon, weight_decay: 0.1})."""
    schedule: ScheduleField = ScheduleSettings()
    """How the learning rate changes: a kind alone (linear), or a mapping ({kind: wsd, decay_ratio: 0.1})."""

    @model_validator(mode="after")
    def _there_is_a_learning_rate(self) -> OptimizationSettings:
        if self.learning_rate is None and KINDS[self.optimizer.kind].rate is None:
            raise ValueError(f"{self.optimizer.kind} has no usual learning rate; set learning_rate")
        return self

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> OptimizationSettings:
        kind = self.schedule_kind
        if self.optimizer.kind == "schedule_free" and kind != "constant":
            raise ValueError(f"schedule_free takes the place of schedule.kind: {kind}; leave schedule.kind out")
        for key in self.schedule.given:
            if key not in SCHEDULE_OPTIONS[kind]:
                able = ", ".join(name for name, options in SCHEDULE_OPTIONS.items() if key in options)
                raise ValueError(
                    f"schedule.{key} has no effect with schedule.kind: {kind}; remove it, or set schedule.kind: {able}"
                )
        if kind == "wsd" and self.schedule.warmup_ratio + self._decay_ratio > 1:
            raise ValueError(
                "schedule.warmup_ratio and schedule.decay_ratio are shares of one run, their sum is at most 1"
            )
        return self

    @property
    def _decay_ratio(self) -> float:
        return DECAY_RATIO if self.schedule.decay_ratio is None else self.schedule.decay_ratio

    @property
    def schedule_kind(self) -> ScheduleKind:
        """`schedule.kind`, also where it is not given."""
        return self.schedule.kind or ("constant" if self.optimizer.kind == "schedule_free" else "cosine")

    def schedule_of(self, steps: int) -> Schedule:
        """The schedule of a stage of so many steps."""
        return Schedule(
            self.schedule_kind,
            steps,
            warmup_steps=round(self.schedule.warmup_ratio * steps),
            decay_steps=round(self._decay_ratio * steps),
            **{key: value for key, value in self.schedule.given.items() if key != "decay_ratio"},
        )
