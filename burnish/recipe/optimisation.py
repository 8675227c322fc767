"""What a user may say of how weights are updated: the optimiser and its schedule. Part of every stage that trains."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.optim import OptimizerName
from burnish.recipe.numbers import BelowOne, Fraction
from burnish.schedule import Shape

DECAY = 0.2
"""Share of the steps that wsd decays, if the recipe does not say (arXiv 2405.18392 finds 10 to 20 % enough)."""


class Optimisation(Settings):
    """The optimiser and its schedule."""

    optimizer: OptimizerName = "adamw"
    """adamw, adamw_8bit (needs the extra `quant`), muon."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 2e-5 for full weights, 2e-4 for LoRA."""
    schedule: Shape = "cosine"
    """Shape after the warm-up: constant, linear, cosine, wsd."""
    warmup: Fraction = 0.03
    """Share of the steps that warm up."""
    decay: Fraction | None = None
    """Share of the steps that decay, for wsd alone; null: 0.2."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Share of each matrix that a step takes away, times the learning rate (decoupled, arXiv 1711.05101)."""
    betas: Annotated[tuple[BelowOne, BelowOne], Field(strict=False)] = (0.9, 0.999)
    """AdamW's averages of gradients and squares."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null: no clipping."""

    @model_validator(mode="after")
    def _schedule_is_possible(self) -> Optimisation:
        if self.decay is not None and self.schedule != "wsd":
            raise ValueError(f"decay has no effect with schedule: {self.schedule}; set schedule: wsd or remove it")
        if self.schedule == "wsd" and self.warmup + (DECAY if self.decay is None else self.decay) > 1:
            raise ValueError("warmup and decay are shares of one run, their sum is at most 1")
        return self
