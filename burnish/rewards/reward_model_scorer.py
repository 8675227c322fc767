"""Reward model that scores answers on the device of the run, loaded once. Imported by `reward_model` when it grades.

An answer is rendered and tokenized as in the reward model's training (`data.rendering`), so that both score the same
tokens. All answers of a call are packed together without padding, and answers to one prompt share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from burnish.data.tokenize import Sample
from burnish.errors import ModelError, RecipeError
from burnish.model.open import ModelRef, find_model, value_head_of_model
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.rewards.load_scoring_model import load_scoring_model
from burnish.rewards.response_renderer import ResponseRenderer
from burnish.rewards.response_view import ResponseView
from burnish.rewards.shared_groups import shared_groups
from burnish.rewards.verdict import Failure, Outcome, outcome
from burnish.roles.scorer import LiveScorer
from burnish.types import Group, Score


@dataclass(frozen=True, eq=False, slots=True)
class RewardModelScorer:
    """Reward model with the factors of its scores. Called with the answers to each prompt."""

    model: Model
    renderer: ResponseRenderer
    factors: Tensor
    """[K] float64 factors of its scores."""
    budget: int
    """Maximum number of tokens of a microbatch."""

    @classmethod
    def open(
        cls, name: str, output: str | None, weights: Mapping[str, float], *, budget: int, device: str | None = None
    ) -> Self:
        """Loads a reward model. The state of random generators is kept, since that of the run depends on it.

        Args:
            name: a folder, or a hub name.
            output: the score that counts; None: the only one, or the sum by weights.
            weights: factors of several scores.
            budget: maximum number of tokens of a microbatch.
            device: torch's name of it; None: CUDA if there is one, else the CPU.

        Raises:
            ModelError: it is not a reward model of whole answers.
            RecipeError: it has no such scores, or several and none is selected.
        """
        reference = find_model(name)
        factors = torch.tensor(_factors(name, _head_of(reference), output, weights), dtype=torch.float64)
        opened, model = load_scoring_model(reference, device)
        return cls(model, ResponseRenderer.of(opened), factors, budget)

    def __call__(self, groups: Sequence[Sequence[ResponseView]]) -> list[list[Outcome]]:
        """Scores of all answers, at the token that ends each; a failure where an answer cannot be scored."""
        samples = iter(self.renderer.samples([answer for group in groups for answer in group]))
        by_group = [[next(samples) for _ in group] for group in groups]
        packed = [each for group in by_group for each in _sharing(group)]
        scores = LiveScorer(self.model).score(packed, Score.VALUE, self.budget)
        values = iter([value for of_group in scores for value in of_group])
        return [[s if isinstance(s, Failure) else self._weighted(next(values)) for s in group] for group in by_group]

    def _weighted(self, value: Tensor) -> Outcome:
        """Reward of [1] or [1, K] scores."""
        return outcome(float(value.double().reshape(-1) @ self.factors))


def _sharing(answers: Sequence[Sample | Failure]) -> Iterator[Group]:
    """Groups of the answers to one prompt that can be scored, each at its last token."""
    samples = [answer for answer in answers if isinstance(answer, Sample)]
    return shared_groups(samples, [[len(sample.tokens) - 1] for sample in samples])


def _head_of(reference: ModelRef) -> ValueHeadConfig:
    head = value_head_of_model(reference)
    if head is None or head.judged != "answer":
        kind = "a reward model of steps" if head else "a language model"
        raise ModelError(
            given=f"reward_model: {reference.given}, which is {kind}",
            rule="a reward is the score of a reward model of whole answers",
            remedy="give it to the reward process_reward_model"
            if head
            else "name a run of burnish reward, or another model for sequence classification",
        )
    return head


def _factors(model: str, head: ValueHeadConfig, output: str | None, weights: Mapping[str, float]) -> list[float]:
    """Factor of each score in the reward."""
    if head.outputs == 1 and output is None and not weights:
        return [1.0]
    factors = {output: 1.0} if output is not None else dict(weights)
    known = ", ".join(head.names) or "none with a name"
    if not factors:
        raise RecipeError(
            given=f"reward_model: {model}, which gives {head.outputs} scores",
            rule="a reward is one number",
            remedy=f"select one of its scores ({known}) with output, or give weights",
        )
    unknown = [name for name in factors if name not in head.names]
    if unknown:
        raise RecipeError(
            given=f"the score {unknown[0]} of reward_model: {model}",
            rule=f"its scores are: {known}",
            remedy="correct the name" if head.names else "remove output and weights, or name the scores in id2label",
        )
    return [factors.get(name, 0.0) for name in head.names]
