"""A few responses of a batch for people: the best, the worst and the most surprising one.

Beside `rollouts`. They become lines of samples.jsonl, which the report shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.credit.combine import contributions
from burnish.credit.settings import Combination
from burnish.data.records import Task
from burnish.sources.prompt_order import mean
from burnish.tasks.response_views import response_view
from burnish.tasks.verdict import Outcome, Verdict
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class GradedGroup:
    """A prompt, what was written to it, and what was said of that."""

    row: int
    """Of the prompt, among all that are tried."""
    task: Task
    group: Group
    """Every response with its `reward`; None where nobody could judge."""
    texts: tuple[str, ...]
    """What was written, without what of it stands in the prompt (`Task.generation_prefix`)."""
    verdicts: tuple[Verdict, ...]

    @property
    def rewards(self) -> list[float]:
        """Of the judged responses."""
        return [response.reward for response in self.group.responses if response.reward is not None]

    @property
    def worth(self) -> Tensor:
        """[n] float64, rewards; nan: not judged."""
        rewards = [math.nan if each.reward is None else each.reward for each in self.group.responses]
        return torch.tensor(rewards, dtype=torch.float64)

    def outcomes(self, parts: Sequence[str]) -> Tensor:
        """[n, K] float64, of the rewards with these names; nan: not judged by it, or without a reward at all."""
        rows = [
            [_number(verdict.parts.get(name)) if response.reward is not None else math.nan for name in parts]
            for response, verdict in zip(self.group.responses, self.verdicts, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class RolloutSample:
    """One judged response, as a line of samples.jsonl has it."""

    rollout: str
    """Why it is shown: best, worst, or most surprising."""
    row: int
    """Of the prompt, among all that are tried."""
    prompt: str
    response: str
    """From its beginning, also where that stands in the prompt."""
    reference: str | None
    reward: float
    parts: dict[str, float | str | None]
    """Outcome of each reward by its name; text: a failure."""
    contributions: dict[str, float]
    """What each reward that counts adds to the comparison with the siblings, before anything is divided: see
    `credit.combine.contributions`."""
    advantage: float | None
    """Mean over its tokens; None: its group was left out."""
    logprob: float
    """Mean over its tokens, nats."""


def rollout_samples(
    tried: Sequence[GradedGroup],
    credited: Sequence[Group],
    weights: Mapping[str, float],
    combination: Combination = "sum",
) -> list[RolloutSample]:
    """The best, the worst, and the one that is furthest from its group's mean reward, each once.

    Args:
        tried: all that was tried for a batch.
        credited: its groups with advantages.
        weights: of the rewards that count, by the names of their parts.
        combination: how they become one.
    """
    places = ((each, index) for each in tried for index in range(len(each.texts)))
    judged = [(each, index) for each, index in places if each.group.responses[index].reward is not None]
    if not judged:
        return []
    chosen = {
        "best": max(judged, key=lambda one: _reward(*one)),
        "worst": min(judged, key=lambda one: _reward(*one)),
        "most surprising": max(judged, key=lambda one: (_surprise(*one), -_logprob(*one))),
    }
    # By the tensor itself: credit keeps the tokens of the responses that it keeps.
    learned = (response for group in credited for response in group.responses)
    advantages = {id(each.tokens): float(each.advantages.mean()) for each in learned if each.advantages is not None}
    kinds: dict[tuple[int, int], str] = {}
    for kind, (each, index) in chosen.items():
        kinds.setdefault((id(each), index), kind)
    return [
        _rollout(kind, each, index, advantages, _contributions(each, index, weights, combination))
        for kind, (each, index) in chosen.items()
        if kinds[id(each), index] == kind
    ]


def _contributions(
    each: GradedGroup, index: int, weights: Mapping[str, float], combination: Combination
) -> dict[str, float]:
    if not weights:
        return {}
    factors = torch.tensor(list(weights.values()), dtype=torch.float64)
    found = contributions(each.outcomes(list(weights)), factors, combination)[index]
    return {name: value for name, value in zip(weights, found.tolist(), strict=True) if not math.isnan(value)}


def _rollout(
    kind: str, each: GradedGroup, index: int, advantages: dict[int, float], contributions: dict[str, float]
) -> RolloutSample:
    answer, verdict = response_view(each.task, each.texts[index]), each.verdicts[index]
    return RolloutSample(
        rollout=kind,
        row=each.row,
        prompt=answer.asked,
        response=answer.text,
        reference=None if answer.reference is None else str(answer.reference),
        reward=_reward(each, index),
        parts=dict(_parts(verdict)),
        contributions=contributions,
        advantage=advantages.get(id(each.group.responses[index].tokens)),
        logprob=_logprob(each, index),
    )


def _parts(verdict: Verdict) -> Iterator[tuple[str, float | str | None]]:
    for name, outcome in verdict.parts.items():
        yield name, outcome if isinstance(outcome, float) or outcome is None else str(outcome)


def _number(outcome: Outcome) -> float:
    return outcome if isinstance(outcome, float) else math.nan


def _reward(each: GradedGroup, index: int) -> float:
    reward = each.group.responses[index].reward
    assert reward is not None, "only judged responses are shown"
    return reward


def _surprise(each: GradedGroup, index: int) -> float:
    return abs(_reward(each, index) - mean(each.rewards))


def _logprob(each: GradedGroup, index: int) -> float:
    logprobs = each.group.responses[index].sampler_logprobs
    assert logprobs is not None, "sampled responses have log-probabilities"
    return float(logprobs.mean())
