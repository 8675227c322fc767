"""Settings of supervised fine-tuning. Imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from burnish.config.settings import Settings
from burnish.config.user_code import is_user_code
from burnish.settings.loss_options import UserOptions, read_loss_options
from burnish.settings.stage import SupervisedSettings


class SftLossOptions(Settings):
    """Options of the loss cross_entropy."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing: share of the target distribution that is uniform over the vocabulary."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the z-loss (log Z)²."""


class SftSettings(SupervisedSettings):
    """Supervised fine-tuning."""

    usual: ClassVar[tuple[str, ...]] = (
        "epochs",
        "learning_rate",
        "sequences_per_step",
        "tokens_per_microbatch",
        "max_length",
        "chat_template",
        "train_on",
        "eval_share",
        "eval_every",
        "evaluation.generations",
        "adapter.kind",
        "adapter.rank",
        "optimizer.kind",
        "gradient_checkpointing",
        "dtype",
    )

    loss: str = "cross_entropy"
    """Loss: cross_entropy, or your own file.py:name (docs/methods/sft.md)."""
    loss_options: SftLossOptions | UserOptions = Field(default_factory=dict, validate_default=True)
    """Options of the loss, such as {label_smoothing: 0.1}; for your own loss, arguments of its class."""
    neftune_alpha: Annotated[float, Field(gt=0)] | None = None
    """Scale of the noise on embeddings in training (NEFTune, arXiv 2310.05914: 5, 10 or 15); null: no noise."""

    @field_validator("loss_options", mode="plain", json_schema_input_type=SftLossOptions | UserOptions)
    @classmethod
    def _options_of_the_loss(cls, value: object, info: ValidationInfo) -> SftLossOptions | UserOptions:
        return read_loss_options(SftLossOptions, value, info.data.get("loss"))

    @model_validator(mode="after")
    def _loss_is_known(self) -> SftSettings:
        if self.loss != "cross_entropy" and not is_user_code(self.loss):
            raise ValueError(f"loss: {self.loss} is unknown; write cross_entropy, or file.py:name for your own")
        return self
