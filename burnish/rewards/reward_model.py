"""Reward given by a reward model.

The run loads the model once, onto its device, and scores all answers of a batch together, each as in the model's
training: in the reward model's own template, at the token that ends it, with the text of control tokens as ordinary
characters. A model of another tokenizer or template than the policy's therefore scores another text than the policy
wrote, which `rerender` allows. The code that needs torch is in `reward_model_scorer`, so that a recipe is read without
it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.model.settings import ModelKind
from burnish.rewards.model_reward import ModelReward

if TYPE_CHECKING:
    from burnish.rewards.reward_model_scorer import RewardModelScorer


class RewardModelReward(ModelReward):
    """Score of a reward model of whole responses; of several scores one, or their weighted sum."""

    kind: ClassVar[ModelKind] = "reward_model"
    name: Literal["reward_model"] = "reward_model"
    output: str | None = None
    """Name of the score that counts, if there are several; null: the only one, or the sum by weights."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Factors of several scores in the sum; scores that are not named count 0."""

    @model_validator(mode="after")
    def _one_way(self) -> RewardModelReward:
        if self.output is not None and self.weights:
            raise ValueError("output selects one score and weights several; give one of the two")
        return self

    def load(self, device: str | None, resolve_model: Callable[[str], str]) -> RewardModelScorer:
        """Loads the model.

        Raises:
            UserError: there is no such model, or it has no such scores.
        """
        from burnish.rewards.reward_model_scorer import (
            RewardModelScorer,
        )  # torch takes seconds, and a recipe is read without it

        name, budget = resolve_model(self.model), self.tokens_per_microbatch
        return RewardModelScorer.open(name, self.output, self.weights, budget=budget, device=device)
