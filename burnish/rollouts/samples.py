"""Rollout samples: the best, the worst and the most surprising response of a batch, for samples.jsonl and the
report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from burnish.credit.combine import contributions
from burnish.credit.settings import Combination
from burnish.rewards.verdict import Verdict
from burnish.rollouts.metrics import mean
from burnish.rollouts.worker import GradedGroup
from burnish.watch.journal_lines import RolloutSample

_UNGRADED = 3
"""Number of samples of a batch without rewards."""


def rollout_samples(
    graded_groups: Sequence[GradedGroup],
    advantages: Mapping[tuple[int, int], float],
    weights: Mapping[str, float],
    combination: Combination = "sum",
    *,
    trains_all: bool = False,
) -> list[RolloutSample]:
    """The best, the worst, and the one that is furthest from its group's mean reward, each once.

    Args:
        graded_groups: all graded groups of a batch.
        advantages: (index of the group, index of the response) → mean advantage of the response's tokens.
        weights: weights of the rewards by name, without those of weight 0.
        combination: combination of the rewards.
        trains_all: whether all responses are trained on, graded or not. Without any reward, the first responses to the
            first prompts are chosen.
    """
    responses = ((number, index) for number, graded in enumerate(graded_groups) for index in range(len(graded.texts)))
    candidates = [
        _Candidate(number, index, graded_groups[number])
        for number, index in responses
        if graded_groups[number].group.responses[index].reward is not None
    ]
    if not candidates:
        first = [_Candidate(number, 0, graded) for number, graded in enumerate(graded_groups[:_UNGRADED])]
        return [_sample("sampled", each, None, weights, combination, trains_all) for each in first if trains_all]
    chosen = {
        "best": max(candidates, key=lambda candidate: candidate.reward),
        "worst": min(candidates, key=lambda candidate: candidate.reward),
        "most surprising": max(candidates, key=lambda candidate: (candidate.surprise, -candidate.logprob)),
    }
    kinds: dict[_Candidate, str] = {}
    for kind, candidate in chosen.items():
        kinds.setdefault(candidate, kind)
    return [
        _sample(kind, candidate, advantages.get((candidate.number, candidate.index)), weights, combination, trains_all)
        for candidate, kind in kinds.items()
    ]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Graded response of a batch."""

    number: int
    """Index of its group."""
    index: int
    """Its index in the group."""
    graded: GradedGroup

    @property
    def reward(self) -> float:
        reward = self.graded.group.responses[self.index].reward
        assert reward is not None, "only graded responses are samples"
        return reward

    @property
    def surprise(self) -> float:
        """Distance from the mean reward of its group."""
        return abs(self.reward - mean(self.graded.rewards))

    @property
    def logprob(self) -> float:
        """Mean over its tokens, nats."""
        logprobs = self.graded.group.responses[self.index].sampler_logprobs
        assert logprobs is not None, "sampled responses have log-probabilities"
        return float(logprobs.mean())


def _contributions(
    graded: GradedGroup, index: int, weights: Mapping[str, float], combination: Combination
) -> dict[str, float]:
    if not weights:
        return {}
    factors = torch.tensor(list(weights.values()), dtype=torch.float64)
    values = contributions(graded.outcomes(list(weights)), factors, combination)[index]
    return {name: value for name, value in zip(weights, values.tolist(), strict=True) if not math.isnan(value)}


def _sample(
    kind: str,
    candidate: _Candidate,
    advantage: float | None,
    weights: Mapping[str, float],
    combination: Combination,
    trains_all: bool,
) -> RolloutSample:
    graded, index = candidate.graded, candidate.index
    view, verdict = graded.view(index), graded.verdicts[index]
    return RolloutSample(
        rollout=kind,
        row=graded.prompt.row,
        prompt=view.asked,
        response=view.text,
        reference=None if view.reference is None else str(view.reference),
        reward=graded.group.responses[index].reward,
        parts=dict(_parts(verdict)),
        labels={name: label.name for name, label in verdict.labels.items()},
        contributions=_contributions(graded, index, weights, combination),
        advantage=advantage,
        trained=True if trains_all else None,
        logprob=candidate.logprob,
    )


def _parts(verdict: Verdict) -> Iterator[tuple[str, float | str | None]]:
    for name, outcome in verdict.parts.items():
        yield name, outcome if isinstance(outcome, float) or outcome is None else str(outcome)
