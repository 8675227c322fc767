"""Groups to compare, and losses on given numbers instead of a model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from burnish.losses.base import Loss
from burnish.losses.preference.options import DataNeeds
from burnish.microbatch import join
from burnish.model.policy import Model
from burnish.packing import count_denominators, pack
from burnish.train.step import differentiate, score_joined, sum_terms
from burnish.types import Group, Microbatch, Response, Score, TokenScores
from tests.conftest import make_groups

SHAPES = {
    DataNeeds.PAIR: [(4, [5, 3]), (9, [2, 6]), (3, [4, 4]), (6, [1, 7])],
    DataNeeds.TRIPLE: [(4, [5, 3, 2]), (9, [2, 6, 3]), (3, [4, 4, 4])],
    DataNeeds.RANKING: [(4, [5, 3, 2, 6]), (9, [2, 6]), (3, [4, 4, 1])],
    DataNeeds.SCORED: [(4, [5, 3, 2, 6]), (9, [2, 6]), (3, [4, 4, 1])],
    DataNeeds.VERDICT: [(4, [5]), (9, [2]), (3, [4, 3]), (6, [7]), (5, [3])],
    DataNeeds.ANY: [(4, [5, 3]), (9, [2]), (3, [4, 4, 2])],
}
"""(prompt length, response lengths) of a step, for every kind of data."""


def compared(data: DataNeeds, seed: int = 0, *, holes: bool = True) -> list[Group]:
    """A step of random groups with what losses may ask for: weights, reference log-probabilities, rewards."""
    generator = torch.Generator().manual_seed(seed + 1)
    groups = make_groups(SHAPES[data], seed, holes=holes)
    return [annotated(group, generator, data) for group in groups]


def annotated(group: Group, generator: torch.Generator, data: DataNeeds, least: float = -3.0) -> Group:
    """With rewards in order, and reference log-probabilities between `least` and 0 per token."""
    rewards = torch.rand(len(group.responses), generator=generator).sort(descending=True).values.tolist()
    if data is DataNeeds.VERDICT:
        rewards = [float(reward > 0.5) for reward in rewards]
    responses = tuple(
        replace(
            response,
            reference_logprobs=least * torch.rand(len(response.tokens), generator=generator, dtype=torch.float64),
            reward=reward,
        )
        for response, reward in zip(group.responses, rewards, strict=True)
    )
    return replace(group, responses=responses)


def with_reference(groups: list[Group], reference: Model) -> list[Group]:
    """Annotated with the reference's log-probabilities."""
    made = []
    for group in groups:
        scores, _ = score_joined(reference, reference.pack([group], 1000), [Score.LOGPROB])
        pieces = scores.of(Score.LOGPROB).split([len(response.tokens) for response in group.responses])
        responses = zip(group.responses, pieces, strict=True)
        made.append(replace(group, responses=tuple(replace(r, reference_logprobs=p) for r, p in responses)))
    return made


def group_of(*responses: Sequence[tuple[float, float]], rewards: Sequence[float] | None = None) -> tuple[Group, Tensor]:
    """A group whose responses are given as (log-probability, reference's) per token; and the former in one row."""
    made = tuple(
        Response(
            tokens=torch.arange(len(tokens)) + 1,
            trainable=torch.ones(len(tokens), dtype=torch.bool),
            reference_logprobs=torch.tensor([reference for _, reference in tokens], dtype=torch.float64),
            reward=None if rewards is None else rewards[index],
        )
        for index, tokens in enumerate(responses)
    )
    logprobs = [logprob for tokens in responses for logprob, _ in tokens]
    return Group(prompt=torch.tensor([7, 8]), responses=made), torch.tensor(logprobs, dtype=torch.float64)


def in_one(groups: Sequence[Group]) -> Microbatch:
    """The groups in one microbatch, in their order."""
    return join([part for index, group in enumerate(groups) for part in pack([group], 10**6, start=index)])


def as_function(loss: Loss, groups: Sequence[Group]) -> Callable[[Tensor, Tensor | None], Tensor]:
    """The step's loss of these groups, with gradient, as a function of scores [S]."""
    microbatch, counts = in_one(groups), count_denominators(groups)
    return lambda logprob, collision: sum_terms(loss(_scores(loss, logprob, collision), microbatch), counts)


def value(loss: Loss, groups: Sequence[Group], logprob: Tensor, collision: Tensor | None = None) -> Tensor:
    """The step's loss, with gradient, of groups whose scores are given [S]."""
    return as_function(loss, groups)(logprob, collision)


def figures(loss: Loss, groups: Sequence[Group], logprob: Tensor, collision: Tensor | None = None) -> dict[str, float]:
    """What is reported of a step."""
    sums, _ = differentiate(_scores(loss, logprob, collision), in_one(groups), loss, count_denominators(groups))
    return {name: float(figure) for name, figure in sums.items()}


def _scores(loss: Loss, logprob: Tensor, collision: Tensor | None) -> TokenScores:
    """Only what the loss asked for, as scoring gives it."""
    return TokenScores(logprob=logprob, log_collision=collision if Score.LOG_COLLISION in loss.needs else None)
