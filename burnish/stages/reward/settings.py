"""Settings of reward model training. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from burnish.config.settings import Settings
from burnish.config.user_code import is_user_code
from burnish.data.filter_rules import FilterRules
from burnish.data.formats.format import Stage
from burnish.data.settings import Comparison
from burnish.losses.reward.settings import OPTIONS as LOSSES
from burnish.losses.reward.settings import defaults
from burnish.model.settings import DtypeName, ModelKind, ValueHeadConfig
from burnish.settings.adapter import Adapter
from burnish.settings.loss_options import UserOptions, read_loss_options
from burnish.settings.resolved import Resolved, resolved
from burnish.settings.stage import Product, SupervisedSettings

COMPARISONS: Mapping[str, Comparison] = {
    "bradley_terry": "pairs",
    "plackett_luce": "rankings",
    "regression": "any",
    "step_cross_entropy": "steps",
    "step_regression": "steps",
}
"""Loss → kind of comparison that rows must have."""
OPTION_KEYS = {"center_coef": "center_coef", "margin": "loss_options.margin"}
"""Option of the built-in losses → its key."""


class RewardLossOptions(Settings):
    """Options of losses of reward models."""

    margin: Annotated[float, Field(ge=0)] | None = None
    """Target difference of rewards per unit of difference of the data's scores (rows without margin or scores count as
    1 and 0); of bradley_terry; null: 0."""


class RewardModelSettings(SupervisedSettings):
    """Reward model training: a value for a response, learned from comparisons or scores."""

    serves: ClassVar[Stage] = "reward"
    produces: ClassVar[Product] = "reward_model"
    usual: ClassVar[tuple[str, ...]] = (
        "loss",
        "scores",
        "center_coef",
        "epochs",
        "learning_rate",
        "sequences_per_step",
        "tokens_per_microbatch",
        "max_length",
        "chat_template",
        "eval_share",
        "eval_every",
        "adapter.kind",
        "adapter.rank",
        "gradient_checkpointing",
        "dtype",
    )

    loss: str = "bradley_terry"
    """Loss: bradley_terry (pairs), plackett_luce (rankings), regression (scores), step_cross_entropy or step_regression
    (process rewards: a label for each step), or your own file.py:name (docs/methods/reward.md)."""
    scores: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """Columns with the scores of a response, such as [helpfulness, correctness], each with its own output of the model;
    of regression. null: rows have one score."""
    center_coef: Annotated[float, Field(ge=0)] | None = None
    """Weight of (chosen + rejected)², which centers rewards at 0 (0.01 in arXiv 2312.09244); of bradley_terry; null:
    0."""
    loss_options: RewardLossOptions | UserOptions = Field(default_factory=dict, validate_default=True)
    """Further options of the loss, such as {margin: 1}; for your own loss, arguments of its class."""
    filters: FilterRules = FilterRules()
    """Treatment of flawed comparisons."""

    @field_validator("loss_options", mode="plain", json_schema_input_type=RewardLossOptions | UserOptions)
    @classmethod
    def _options_of_the_loss(cls, value: object, info: ValidationInfo) -> RewardLossOptions | UserOptions:
        return read_loss_options(RewardLossOptions, value, info.data.get("loss"))

    @model_validator(mode="after")
    def _loss_can_be_made(self) -> RewardModelSettings:
        if not self.is_own and self.loss not in LOSSES:
            raise ValueError(f"loss: {self.loss} is neither one of {', '.join(LOSSES)} nor file.py:name")
        if unused := [OPTION_KEYS[name] for name in self._given if name not in self.used_options]:
            raise ValueError(f"{unused[0]} has no effect: loss {self.loss} does not use it; remove it")
        return self

    @model_validator(mode="after")
    def _scores_are_learned(self) -> RewardModelSettings:
        if self.scores is None:
            return self
        if self.loss != "regression":
            raise ValueError(f"scores has no effect: loss {self.loss} does not use them; set loss=regression")
        if self.format is not None:
            raise ValueError(f"scores sets the format of rows, and so does format: {self.format}; give one of them")
        if len(set(self.scores)) < len(self.scores):
            raise ValueError("scores names a column twice")
        return self

    @model_validator(mode="after")
    def _responses_are_scored_at_their_end(self) -> RewardModelSettings:
        if self.train_on != "assistant":
            raise ValueError(
                f"train_on: {self.train_on} has no effect: a reward model scores a response at its last token; "
                "remove it"
            )
        if self.evaluation.generations:
            raise ValueError("evaluation.generations has no effect: a reward model generates no responses; remove it")
        return self

    @property
    def model_kind(self) -> ModelKind:
        return "process_reward_model" if self.comparison == "steps" else "reward_model"

    def require_possible(self, adapter: Adapter, dtype: DtypeName) -> None:
        if adapter.kind == "qlora":
            raise ValueError("a value head on quantized weights is not implemented; set adapter.kind: lora or full")

    @property
    def is_own(self) -> bool:
        return is_user_code(self.loss)

    @property
    def _given(self) -> dict[str, float]:
        """Options of built-in losses that are not null, by name."""
        further = dict(self.loss_options) if isinstance(self.loss_options, RewardLossOptions) else {}
        options = {"center_coef": self.center_coef, **further}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def used_options(self) -> dict[str, Any]:
        """Name → value of every option that the loss uses; empty for a user's loss."""
        used = {} if self.is_own else defaults(self.loss)
        return {name: self._given.get(name, value) for name, value in used.items()}

    @property
    def resolved_options(self) -> dict[str, Any]:
        """Key → value of every option that the loss uses."""
        return {OPTION_KEYS[name]: value for name, value in self.used_options.items()}

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        return {**super().resolved_defaults, **resolved(self.resolved_options, f"loss: {self.loss}")}

    @property
    def comparison(self) -> Comparison:
        """Kind of comparison that rows must have."""
        if self.scores is not None:
            return "scores"
        return "any" if self.is_own else COMPARISONS[self.loss]

    @property
    def score_names(self) -> tuple[str, ...]:
        return self.scores or ()

    def head_config(self, seed: int) -> ValueHeadConfig:
        """The value head that the stage trains; the seed initializes its weights."""
        return ValueHeadConfig(
            outputs=len(self.score_names) or 1,
            seed=seed,
            judged="step" if self.comparison == "steps" else "answer",
            names=self.score_names,
            problem="multi_label_classification" if self.loss == "step_cross_entropy" else "regression",
        )

    @property
    def filter_rules(self) -> FilterRules:
        return self.filters
