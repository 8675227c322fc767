"""What a user may say of the weights that learn. Beside `schema`, whose recipes have one such answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.recipe.numbers import Positive


class Adapter(Settings):
    """Which weights learn."""

    kind: Literal["full", "lora"] = "full"
    """full: all weights. lora: small matrices beside frozen weights (arXiv 2106.09685)."""
    rank: Positive = 16
    """LoRA's inner width."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """LoRA's scale is alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On LoRA's input. Above 0, a step depends on how it is split into microbatches."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = "all-linear"
    """Names of adapted layers."""

    @model_validator(mode="after")
    def _full_has_no_options(self) -> Adapter:
        changed = [name for name, value in self if name != "kind" and value != type(self).model_fields[name].default]
        if self.kind == "full" and changed:
            raise ValueError(f"adapter.{changed[0]} has no effect with kind: full; set kind: lora or remove it")
        return self
