"""What a user may say of how weights are updated: the optimiser and its schedule. Part of every stage that trains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from burnish.config.settings import Settings
from burnish.optim.settings import KINDS, OptimizerName, unused_options
from burnish.schedule import SHAPE_OPTIONS, Schedule, Shape
from burnish.settings.aliases import OPTIMIZERS_ELSEWHERE, SCHEDULES_ELSEWHERE
from burnish.settings.numbers import BelowOne, Fraction, Positive

DECAY = 0.2
"""Share of the steps that wsd decays, if the recipe does not say (arXiv 2405.18392 finds 10 to 20 % enough)."""
_SHAPE_KEYS = {"decay": "decay", "final_rate": "final", "power": "power", "cycles": "cycles"}
"""Our key: what the schedule calls it."""


def _named_here(elsewhere: Mapping[str, str]) -> BeforeValidator:
    """Refuses another tool's name of a value with ours."""

    def refuse(value: object) -> object:
        if isinstance(value, str) and value in elsewhere:
            raise ValueError(f"here it is {elsewhere[value]}")
        return value

    return BeforeValidator(refuse)


class Optimisation(Settings):
    """The optimiser and its schedule."""

    optimizer: Annotated[OptimizerName, _named_here(OPTIMIZERS_ELSEWHERE)] = "adamw"
    """adamw, adamw_8bit, adamw_paged, adamw_8bit_paged, muon, adafactor, schedule_free, lion, lion_8bit, sgd; their
    memory, options and packages are in docs/optimisers.md."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 2e-5 for full weights, 2e-4 for LoRA, 2e-3 where only vectors learn; lion a fifth of
    it, adafactor fifty times it."""
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Factors of the learning rate by patterns in the names of parameters, such as {embed: 0.1}; where several match,
    they multiply."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Factor of the learning rate from one layer to the one before it, such as 0.9; null: all learn alike."""
    schedule: Annotated[Shape | None, _named_here(SCHEDULES_ELSEWHERE)] = None
    """Shape after the warm-up: constant, linear, cosine, wsd, polynomial, inverse_sqrt, cosine_restarts; null: cosine,
    and constant with schedule_free."""
    warmup: Fraction = 0.03
    """Share of the steps that warm up."""
    decay: Fraction | None = None
    """Share of the steps that decay, for wsd alone; null: 0.2."""
    final_rate: Fraction | None = None
    """Share of the peak rate at which the schedule ends; null: 0."""
    power: Annotated[float, Field(gt=0)] | None = None
    """Of polynomial; null: 2."""
    cycles: Positive | None = None
    """Cosines of cosine_restarts; null: 2."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Share of each matrix that a step takes away, times the learning rate (decoupled, arXiv 1711.05101)."""
    no_weight_decay: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Patterns in the names of matrices that do not decay, such as [embed]; vectors never do."""
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
    stochastic_rounding: bool = False
    """Updates bfloat16 weights without float32 twins, rounded by chance: four bytes less for each trained weight."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of an average of the weights that stays from step to step, such as 0.999. The average is what is evaluated
    and saved; null: none is kept."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null: no clipping."""

    @model_validator(mode="after")
    def _options_are_of_the_optimizer(self) -> Optimisation:
        if unused := unused_options(self.optimizer, dict(self)):
            raise ValueError(
                f"{unused[0]} has no effect with optimizer: {self.optimizer}, which has "
                f"{', '.join(KINDS[self.optimizer].options)}; remove it or name another optimizer"
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is a form of the momentum, and momentum is 0")
        if self.learning_rate is None and KINDS[self.optimizer].rate is None:
            raise ValueError(f"{self.optimizer} has no usual learning rate; set learning_rate")
        return self

    @model_validator(mode="after")
    def _schedule_free_is_alone(self) -> Optimisation:
        if self.optimizer != "schedule_free":
            return self
        for key, given in {"ema": self.ema is not None, "stochastic_rounding": self.stochastic_rounding}.items():
            if given:
                raise ValueError(f"schedule_free averages float32 weights itself: leave {key} out")
        if self.shape != "constant":
            raise ValueError(f"schedule_free takes the place of schedule: {self.shape}; leave schedule out")
        return self

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> Optimisation:
        takes = SHAPE_OPTIONS[self.shape]
        for key, option in _SHAPE_KEYS.items():
            if dict(self)[key] is not None and option not in takes:
                able = ", ".join(shape for shape, options in SHAPE_OPTIONS.items() if option in options)
                raise ValueError(f"{key} has no effect with schedule: {self.shape}; remove it, or set schedule: {able}")
        if self.shape == "wsd" and self.warmup + (DECAY if self.decay is None else self.decay) > 1:
            raise ValueError("warmup and decay are shares of one run, their sum is at most 1")
        return self

    @model_validator(mode="after")
    def _patterns_are_patterns(self) -> Optimisation:
        for pattern in (*self.learning_rates, *self.no_weight_decay):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        if self.no_weight_decay and not self.weight_decay:
            raise ValueError("no_weight_decay has no effect without weight_decay")
        return self

    @property
    def shape(self) -> Shape:
        """The schedule's, also where it is not given."""
        return self.schedule or ("constant" if self.optimizer == "schedule_free" else "cosine")

    def schedule_of(self, steps: int) -> Schedule:
        """The schedule of a stage of so many steps."""
        given = {option: dict(self)[key] for key, option in _SHAPE_KEYS.items() if key != "decay"}
        decay = DECAY if self.decay is None else self.decay
        return Schedule(
            self.shape,
            steps,
            warmup=round(self.warmup * steps),
            decay=round(decay * steps),
            **{option: value for option, value in given.items() if value is not None},
        )
