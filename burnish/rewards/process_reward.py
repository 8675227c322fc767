"""Reward given by a process reward model, which values every step of a response.

The run loads the model once, onto its device, and reads all steps of a response in one forward, each at its last token,
as in the model's training. The values are aggregated to the reward of the response; with ``credit: step`` each also
goes to the token that completes its step. The code that needs torch is in `process_reward_scorer`, so that a recipe is
read without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.model.settings import ModelKind
from burnish.rewards.model_reward import ModelReward
from burnish.rewards.steps import Aggregation

if TYPE_CHECKING:
    from burnish.rewards.process_reward_scorer import ProcessRewardScorer


class ProcessReward(ModelReward):
    """Aggregate of the values that a process reward model gives to the steps of a response."""

    kind: ClassVar[ModelKind] = "process_reward_model"
    name: Literal["process_reward_model"] = "process_reward_model"
    aggregation: Aggregation | None = None
    """Reward of a response from the values of its steps: minimum (arXiv 2312.08935), product (arXiv 2305.20050, of
    probabilities), mean, sum, or last; null: minimum, with credit: step sum."""
    credit: Literal["response", "step"] = "response"
    """response: all tokens get the credit of the aggregate. step: the value of each step is also credited to the tokens
    up to its end (arXiv 2402.03300, section 4.1.3)."""
    probability: bool | None = None
    """Whether values are σ of the model's outputs; null: where it learned probabilities (loss step_cross_entropy)."""
    separator: Annotated[str, Field(min_length=1)] = "\n"
    """Text between two steps of a response. Parts without text, or with tags of a thought alone, are no steps."""

    @model_validator(mode="after")
    def _can_be_computed(self) -> ProcessReward:
        if self.aggregation == "product" and self.probability is False:
            raise ValueError(
                "aggregation: product multiplies probabilities, and probability: false keeps values that may be "
                "negative; remove probability, or choose another aggregation"
            )
        if self.credit == "step":
            self._require_sum()
        return self

    def _require_sum(self) -> None:
        if self.aggregation not in (None, "sum"):
            raise ValueError(
                f"credit: step gives each step its own value, which add up to the reward of the response, and "
                f"aggregation is {self.aggregation}; remove aggregation, or set credit: response"
            )
        if self.cache:
            raise ValueError(
                "cache stores the reward of a response and not those of its steps, which credit: step needs; remove it"
            )

    @property
    def resolved_aggregation(self) -> Aggregation:
        """`aggregation` with its default resolved."""
        return self.aggregation or ("sum" if self.credit == "step" else "minimum")

    @property
    def credits_steps(self) -> bool:
        return self.credit == "step" and self.weight != 0

    def load(self, device: str | None, resolve_model: Callable[[str], str]) -> ProcessRewardScorer:
        """Loads the model.

        Raises:
            UserError: there is no such model, or it does not value steps.
        """
        from burnish.rewards.process_reward_scorer import (
            ProcessRewardScorer,
        )  # torch takes seconds, and a recipe is read without it

        return ProcessRewardScorer.open(
            resolve_model(self.model),
            self.resolved_aggregation,
            separator=self.separator,
            probability=self.probability,
            by_step=self.credit == "step",
            budget=self.tokens_per_microbatch,
            device=device,
        )
