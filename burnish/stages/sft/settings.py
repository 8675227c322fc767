"""What a user may say of a stage of supervised fine-tuning. Under `recipe`; needs no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from burnish.config.own_code import is_own
from burnish.settings.stage import FromAnswers


class Sft(FromAnswers):
    """Supervised fine-tuning."""

    loss: str = "cross_entropy"
    """cross_entropy, or a loss of your own: file.py:name (docs/methods/sft.md)."""
    loss_options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """What a class of your own is made with."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over the vocabulary, of cross_entropy."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of (log Z)²."""
    neftune: Annotated[float, Field(gt=0)] | None = None
    """Noise on the embeddings in training: alpha of arXiv 2310.05914, which tries 5, 10 and 15; null: none."""

    @model_validator(mode="after")
    def _options_are_of_the_loss(self) -> Sft:
        own = is_own(self.loss)
        if self.loss != "cross_entropy" and not own:
            raise ValueError(f"loss: {self.loss} is none; write cross_entropy, or file.py:name for one of your own")
        if own and (self.label_smoothing or self.z_loss):
            raise ValueError("label_smoothing and z_loss are parts of cross_entropy; write them into your own loss")
        if self.loss_options and not own:
            raise ValueError("loss_options are for a loss of your own (loss: file.py:name)")
        return self
