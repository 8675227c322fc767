"""What a user may say of a stage of supervised fine-tuning. Under `recipe`; needs no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from burnish.config.settings import Settings
from burnish.config.user_code import is_user_code
from burnish.settings.loss_options import UserOptions, read_loss_options
from burnish.settings.stage import SupervisedSettings


class SftLossOptions(Settings):
    """Options of cross_entropy."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over the vocabulary."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of (log Z)²."""


class SftSettings(SupervisedSettings):
    """Supervised fine-tuning."""

    loss: str = "cross_entropy"
    """cross_entropy, or a loss of your own: file.py:name (docs/methods/sft.md)."""
    loss_options: SftLossOptions | UserOptions = Field(default_factory=dict, validate_default=True)
    """Options of the loss, such as {label_smoothing: 0.1}; of your own loss, what its class is made with."""
    neftune_alpha: Annotated[float, Field(gt=0)] | None = None
    """Noise on the embeddings in training (NEFTune, arXiv 2310.05914, which tries 5, 10 and 15); null: none."""

    @field_validator("loss_options", mode="plain", json_schema_input_type=SftLossOptions | UserOptions)
    @classmethod
    def _options_of_the_loss(cls, value: object, info: ValidationInfo) -> SftLossOptions | UserOptions:
        return read_loss_options(SftLossOptions, value, info.data.get("loss"))

    @model_validator(mode="after")
    def _loss_is_known(self) -> SftSettings:
        if self.loss != "cross_entropy" and not is_user_code(self.loss):
            raise ValueError(f"loss: {self.loss} is none; write cross_entropy, or file.py:name for one of your own")
        return self
