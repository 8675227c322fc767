"""What a user may say of a stage that trains a reward model. Under `recipe`; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from burnish.config.own_code import is_own
from burnish.data.formats.format import Stage
from burnish.data.gate_rules import Rules
from burnish.data.settings import Comparison
from burnish.losses.reward.settings import OPTIONS as LOSSES
from burnish.losses.reward.settings import defaults
from burnish.model.settings import Judging
from burnish.settings.stage import FromAnswers

COMPARISONS: Mapping[str, Comparison] = {
    "bradley_terry": "pairs",
    "plackett_luce": "rankings",
    "regression": "any",
    "step_cross_entropy": "steps",
    "step_regression": "steps",
}
"""What rows must have for a loss."""
OPTIONS = ("margin", "centring")


class Reward(FromAnswers):
    """A reward model: one number for an answer, learned from better and worse, or from scores."""

    serves: ClassVar[Stage] = "reward"

    loss: str = "bradley_terry"
    """bradley_terry (pairs), plackett_luce (rankings), regression (scores), step_cross_entropy or step_regression (a
    score for each step), or file.py:name for one of your own (docs/methods/reward.md)."""
    scores: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """Columns with the scores of a response, such as [helpfulness, correctness]: one output of the model for each; of
    regression. null: rows have one score."""
    loss_options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """What a class of your own is made with."""
    margin: Annotated[float, Field(ge=0)] | None = None
    """How far apart rewards have to be for each unit by which the data's scores differ (a row without margin or scores
    counts as 1 and 0); of bradley_terry; null: 0."""
    centring: Annotated[float, Field(ge=0)] | None = None
    """Weight of (chosen + rejected)², which keeps rewards around 0 (0.01 in arXiv 2312.09244); of bradley_terry;
    null: 0."""
    gate: Rules = Rules()
    """What happens to flawed rows."""

    @model_validator(mode="after")
    def _loss_can_be_made(self) -> Reward:
        if not self.is_own and self.loss not in LOSSES:
            raise ValueError(f"loss: {self.loss} is none of {', '.join(LOSSES)}, and no file.py:name")
        for name in OPTIONS:
            if getattr(self, name) is not None and (self.is_own or name not in self.resolved_options):
                raise ValueError(f"{name} has no effect: loss {self.loss} does not use it; remove it")
        if self.loss_options and not self.is_own:
            raise ValueError("loss_options are for a loss of your own (loss: file.py:name)")
        return self

    @model_validator(mode="after")
    def _scores_are_learned(self) -> Reward:
        if self.scores is None:
            return self
        if self.loss != "regression":
            raise ValueError(f"scores has no effect: loss {self.loss} does not learn them; set loss=regression")
        if self.format is not None:
            raise ValueError(f"scores says what a row means, and so does format: {self.format}; give one of them")
        if len(set(self.scores)) < len(self.scores):
            raise ValueError("scores names a column twice")
        return self

    @model_validator(mode="after")
    def _answers_are_judged(self) -> Reward:
        if self.train_on != "assistant":
            raise ValueError(
                f"train_on: {self.train_on} has no effect: answers are judged at their last token; remove it"
            )
        if self.eval_answers:
            raise ValueError("eval_answers has no effect: a reward model writes no answers; remove it")
        return self

    @property
    def is_own(self) -> bool:
        return is_own(self.loss)

    @property
    def resolved_options(self) -> dict[str, Any]:
        """Every option that the loss uses, with its value."""
        if self.is_own:
            return {}
        used = defaults(self.loss)
        return {name: value if getattr(self, name) is None else getattr(self, name) for name, value in used.items()}

    @property
    def comparison(self) -> Comparison:
        """What rows must have."""
        if self.scores is not None:
            return "scores"
        return "any" if self.is_own else COMPARISONS[self.loss]

    @property
    def score_names(self) -> tuple[str, ...]:
        return self.scores or ()

    def judging(self, seed: int) -> Judging:
        """The value head that the stage trains, whose first weights are drawn by the seed."""
        return Judging(
            outputs=len(self.score_names) or 1,
            seed=seed,
            judged="step" if self.comparison == "steps" else "answer",
            names=self.score_names,
            problem="multi_label_classification" if self.loss == "step_cross_entropy" else "regression",
        )

    @property
    def gate_rules(self) -> Rules:
        return self.gate
