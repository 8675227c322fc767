"""Process reward model that values the steps of responses on the device of the run, loaded once. Imported by
`process_reward` when it grades.

A response is rendered and tokenized as in the model's training (`response_renderer`), and read at the token that writes
the last character of each step. All responses of a call are packed together without padding, and responses to one
prompt share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from torch import Tensor

from burnish.data.tokenize import Sample
from burnish.errors import ModelError, RecipeError
from burnish.model.open import ModelRef, find_model, value_head_of_model
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.rewards.load_scoring_model import load_scoring_model
from burnish.rewards.response_renderer import ResponseRenderer, unusable
from burnish.rewards.response_view import ResponseView
from burnish.rewards.shared_groups import shared_groups
from burnish.rewards.steps import AGGREGATIONS, Aggregation, step_ends
from burnish.rewards.verdict import Failure, Outcome, SteppedOutcome, StepReward, outcome
from burnish.roles.scorer import LiveScorer
from burnish.types import Group, Score


@dataclass(frozen=True, eq=False, slots=True)
class ProcessRewardScorer:
    """Process reward model with the aggregation of its values. Called with the responses to each prompt."""

    model: Model
    renderer: ResponseRenderer
    aggregation: Aggregation
    probability: bool
    """Whether values are σ of the model's outputs."""
    by_step: bool
    """Whether outcomes have the values of the steps, of which they are the sum."""
    budget: int
    """Maximum number of tokens of a microbatch."""

    @classmethod
    def open(
        cls,
        name: str,
        aggregation: Aggregation,
        *,
        separator: str = "\n",
        probability: bool | None = None,
        by_step: bool = False,
        budget: int = 8192,
        device: str | None = None,
    ) -> Self:
        """Loads a model. The state of random generators is kept, since that of the run depends on it.

        Args:
            name: a folder, or a hub name.
            aggregation: of the values of a response; sum if `by_step`.
            separator: text between steps.
            probability: whether values are σ of the outputs; None: if the model learned logits of probabilities.
            by_step: whether outcomes have the values of steps.
            budget: maximum number of tokens of a microbatch.
            device: torch's name of it; None: CUDA if there is one, else the CPU.

        Raises:
            ModelError: it does not give one value for each step.
            RecipeError: its values are no probabilities, and the settings need some.
        """
        assert aggregation == "sum" or not by_step, "values of steps are parts of their sum"
        reference = find_model(name)
        probable = _is_probability(name, _head_of(reference), aggregation, probability)
        opened, model = load_scoring_model(reference, device)
        renderer = ResponseRenderer.of(opened, partial(step_ends, separator=separator))
        return cls(model, renderer, aggregation, probable, by_step, budget)

    def __call__(self, groups: Sequence[Sequence[ResponseView]]) -> list[list[Outcome]]:
        """Outcomes of all responses; a failure where a response cannot be scored."""
        values = iter(self.values(groups))
        return [[self._outcome(answer, next(values)) for answer in group] for group in groups]

    def values(self, groups: Sequence[Sequence[ResponseView]]) -> list[Sequence[float] | Failure]:
        """Values of the steps of each response, in the order of groups and responses."""
        samples = self.renderer.samples([answer for group in groups for answer in group])
        samples_of = iter(samples)
        by_group = [[next(samples_of) for _ in group] for group in groups]
        packed = [each for group in by_group for each in _sharing(group)]
        scores = LiveScorer(self.model).score(packed, Score.VALUE, self.budget)
        scored = iter([values for of_group in scores for values in of_group])
        return [self._values(sample, next(scored) if _is_scored(sample) else None) for sample in samples]

    def _values(self, sample: Sample | Failure, scores: Tensor | None) -> Sequence[float] | Failure:
        if isinstance(sample, Failure):
            return sample
        if scores is None:
            return () if not len(_scored_tokens(sample)) else unusable("the first token of the text ends a step")
        values = scores.double().reshape(-1)
        listed: list[float] = (values.sigmoid() if self.probability else values).tolist()
        return listed

    def _outcome(self, answer: ResponseView, values: Sequence[float] | Failure) -> Outcome:
        if isinstance(values, Failure):
            return values
        if failure := next((each for each in map(outcome, values) if isinstance(each, Failure)), None):
            return failure
        if self.by_step:
            ends = self.renderer.step_ends(answer.text) if self.renderer.step_ends is not None else ()
            return SteppedOutcome([StepReward(end, value) for end, value in zip(ends, values, strict=True)])
        if values:
            return outcome(AGGREGATIONS[self.aggregation](values))
        # Without a step nothing speaks for the response: the smallest probability, or the sum of nothing.
        return 0.0 if self.probability or self.aggregation == "sum" else unusable("the response has no step")


def _scored_tokens(sample: Sample) -> Sequence[int]:
    """Indices of the tokens that end a step."""
    if sample.step_labels is None:
        return []
    indices: list[int] = np.flatnonzero(~np.isnan(sample.step_labels)).tolist()
    return indices


def _is_scored(sample: Sample | Failure) -> bool:
    """Whether it has steps, and a token before the first one's last token."""
    return isinstance(sample, Sample) and bool(at := _scored_tokens(sample)) and at[0] > 0


def _sharing(responses: Sequence[Sample | Failure]) -> Iterator[Group]:
    """Groups of the responses to one prompt that can be scored, each at the ends of its steps."""
    samples = [response for response in responses if isinstance(response, Sample) and _is_scored(response)]
    return shared_groups(samples, [_scored_tokens(sample) for sample in samples])


def _head_of(reference: ModelRef) -> ValueHeadConfig:
    head = value_head_of_model(reference)
    if head is None or head.judged != "step" or head.outputs != 1:
        kind = "a language model" if head is None else "a reward model of whole answers"
        if head is not None and head.judged == "step":
            kind = f"a model with {head.outputs} numbers for each token"
        raise ModelError(
            given=f"process_reward_model: {reference.given}, which is {kind}",
            rule="a process reward model gives one value for each step of a response",
            remedy="give it to the reward reward_model"
            if head is not None and head.judged == "answer"
            else "name a run of burnish reward with loss=step_cross_entropy or step_regression",
        )
    return head


def _is_probability(model: str, head: ValueHeadConfig, aggregation: Aggregation, given: bool | None) -> bool:
    """Whether values are σ of the model's outputs."""
    learned = head.problem == "multi_label_classification"
    if not learned and (given or aggregation == "product"):
        raise RecipeError(
            given=f"{'probability: true' if given else 'aggregation: product'} of process_reward_model: {model}",
            rule="its outputs are numbers (loss step_regression), not logits of probabilities (step_cross_entropy)",
            remedy="remove probability" if given else "choose another aggregation, such as minimum",
        )
    return learned if given is None else given
