"""Rollout samples: the best, the worst and the most surprising response of a batch, for samples.jsonl and the
report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.credit.combine import contributions
from burnish.credit.settings import Combination
from burnish.data.records import Task
from burnish.rewards.response_views import response_view
from burnish.rewards.verdict import Outcome, Verdict
from burnish.sources.prompt_order import mean
from burnish.types import Group
from burnish.watch.journal_lines import RolloutSample


@dataclass(frozen=True, eq=False, slots=True)
class GradedGroup:
    """A prompt with its responses and their verdicts."""

    row: int
    """Row of the prompt in the data."""
    task: Task
    group: Group
    """The responses with their `reward`; None where grading failed."""
    texts: tuple[str, ...]
    """Texts of the responses, without the part that the prompt contains (`Task.generation_prefix`)."""
    verdicts: tuple[Verdict, ...]

    @property
    def rewards(self) -> list[float]:
        """Rewards of the graded responses."""
        return [response.reward for response in self.group.responses if response.reward is not None]

    @property
    def reward_tensor(self) -> Tensor:
        """[n] float64, rewards; nan: not graded."""
        rewards = [math.nan if response.reward is None else response.reward for response in self.group.responses]
        return torch.tensor(rewards, dtype=torch.float64)

    def outcomes(self, parts: Sequence[str]) -> Tensor:
        """[n, K] float64, outcomes of the rewards with these names; nan: not graded by it, or the response has no
        reward."""
        outcomes = [
            [_number(verdict.parts.get(name)) if response.reward is not None else math.nan for name in parts]
            for response, verdict in zip(self.group.responses, self.verdicts, strict=True)
        ]
        return torch.tensor(outcomes, dtype=torch.float64)


def rollout_samples(
    graded_groups: Sequence[GradedGroup],
    credited: Sequence[Group],
    weights: Mapping[str, float],
    combination: Combination = "sum",
) -> list[RolloutSample]:
    """The best, the worst, and the one that is furthest from its group's mean reward, each once.

    Args:
        graded_groups: all graded groups of a batch.
        credited: its groups with advantages.
        weights: weights of the rewards by name, without those of weight 0.
        combination: combination of the rewards.
    """
    places = ((graded, index) for graded in graded_groups for index in range(len(graded.texts)))
    candidates = [(graded, index) for graded, index in places if graded.group.responses[index].reward is not None]
    if not candidates:
        return []
    chosen = {
        "best": max(candidates, key=lambda place: _reward(*place)),
        "worst": min(candidates, key=lambda place: _reward(*place)),
        "most surprising": max(candidates, key=lambda place: (_surprise(*place), -_logprob(*place))),
    }
    # Responses are identified by their tokens' tensor, which credit passes on.
    responses = (response for group in credited for response in group.responses)
    advantages = {id(r.tokens): float(r.advantages.mean()) for r in responses if r.advantages is not None}
    kinds: dict[tuple[int, int], str] = {}
    for kind, (graded, index) in chosen.items():
        kinds.setdefault((id(graded), index), kind)
    return [
        _sample(kind, graded, index, advantages, _contributions(graded, index, weights, combination))
        for kind, (graded, index) in chosen.items()
        if kinds[id(graded), index] == kind
    ]


def _contributions(
    graded: GradedGroup, index: int, weights: Mapping[str, float], combination: Combination
) -> dict[str, float]:
    if not weights:
        return {}
    factors = torch.tensor(list(weights.values()), dtype=torch.float64)
    values = contributions(graded.outcomes(list(weights)), factors, combination)[index]
    return {name: value for name, value in zip(weights, values.tolist(), strict=True) if not math.isnan(value)}


def _sample(
    kind: str, graded: GradedGroup, index: int, advantages: dict[int, float], contributions: dict[str, float]
) -> RolloutSample:
    view, verdict = response_view(graded.task, graded.texts[index]), graded.verdicts[index]
    return RolloutSample(
        rollout=kind,
        row=graded.row,
        prompt=view.asked,
        response=view.text,
        reference=None if view.reference is None else str(view.reference),
        reward=_reward(graded, index),
        parts=dict(_parts(verdict)),
        contributions=contributions,
        advantage=advantages.get(id(graded.group.responses[index].tokens)),
        logprob=_logprob(graded, index),
    )


def _parts(verdict: Verdict) -> Iterator[tuple[str, float | str | None]]:
    for name, outcome in verdict.parts.items():
        yield name, outcome if isinstance(outcome, float) or outcome is None else str(outcome)


def _number(outcome: Outcome) -> float:
    return outcome if isinstance(outcome, float) else math.nan


def _reward(graded: GradedGroup, index: int) -> float:
    reward = graded.group.responses[index].reward
    assert reward is not None, "only graded responses are samples"
    return reward


def _surprise(graded: GradedGroup, index: int) -> float:
    return abs(_reward(graded, index) - mean(graded.rewards))


def _logprob(graded: GradedGroup, index: int) -> float:
    logprobs = graded.group.responses[index].sampler_logprobs
    assert logprobs is not None, "sampled responses have log-probabilities"
    return float(logprobs.mean())
