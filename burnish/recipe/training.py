"""What every stage that learns from rows has: its data, its length, its rhythm. Beside `schema`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.data.template import MARKERS
from burnish.recipe.data import DataField
from burnish.recipe.numbers import Positive
from burnish.recipe.optimisation import Optimisation
from burnish.recipe.reading import Reading


class Training(Reading, Optimisation):
    """A stage that learns from rows."""

    data: DataField
    """A file, a folder, a pattern or a hub set; or a list of such sources, with weights or counts (docs/data.md)."""
    eval_data: DataField | None = None
    """Held-out data, written in the same ways; null: none."""
    add_tokens: Literal["template"] | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """Special tokens that tokenizer and model are given where they lack them: template (what the named template marks
    turns with), or a list; null: none."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the data; null: 1, unless max_steps is given."""
    max_steps: Positive | None = None
    """Optimiser steps, instead of epochs; null: as many as the epochs take."""
    sequences_per_step: Positive = 32
    """Rows per optimiser step: the batch size that matters for the result."""
    gradient_checkpointing: bool = False
    """Compute layers again in the backward: less memory, about a third more time."""
    eval_every: Positive | None = None
    """Steps between evaluations; null: at the beginning and the end."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; null: a tenth of the run."""
    keep_checkpoints: Positive = 2
    """How many of the newest checkpoints stay."""
    log_every: Positive = 10
    """Steps between lines of progress; metrics.jsonl has every step."""

    @model_validator(mode="after")
    def _lengths_and_evaluations(self) -> Training:
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError("epochs and max_steps both say how long the stage is; give one of them")
        if self.eval_every is not None and self.eval_data is None:
            raise ValueError("eval_every needs eval_data: there is nothing to evaluate on")
        return self

    @model_validator(mode="after")
    def _tokens_can_be_added(self) -> Training:
        if self.add_tokens == "template" and not MARKERS.get(self.template or ""):
            marked = ", ".join(name for name, markers in MARKERS.items() if markers)
            raise ValueError(
                f"add_tokens: template adds the tokens of template: {marked}, and here template is {self.template}; "
                "name one of these, or list the tokens"
            )
        if len(set(self.tokens_to_add)) < len(self.tokens_to_add):
            raise ValueError("add_tokens names a token twice")
        if any(not text or text != text.strip() for text in self.tokens_to_add):
            raise ValueError("add_tokens has a token that is empty, or begins or ends with white space")
        return self

    @property
    def tokens_to_add(self) -> tuple[str, ...]:
        """The tokens that `add_tokens` stands for."""
        if self.add_tokens == "template":
            return MARKERS[self.template or ""]
        return self.add_tokens or ()
