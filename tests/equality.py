"""How far a route is from transformers' own forward: what the tests of families hold, and their table shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.model.attention import plain_attention
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.types import Group, Score
from tests.conftest import make_groups
from tests.trees import grown

SHAPES = [(9, [3, 12, 1]), (1, [8]), (15, [2, 2])]
WHOLE, SPLIT = 200, 24
"""Budgets, tokens: all in one microbatch, or every group cut into several."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A random direction's product with the log-probabilities, and its gradient."""

    logprobs: Tensor
    """[tokens] of all trained tokens, nats."""
    gradients: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two ways to the same numbers."""

    logprob: float
    """The largest, nats."""
    gradient: float
    """The largest, over the largest entry of that parameter's gradient (some, of biases of keys, are zero but for
    rounding: at least over a thousandth of the largest of all)."""


def numbered_groups(trees: bool = False) -> list[Group]:
    """Some tokens are not trained. The stream of advantages numbers all tokens, in the order of the groups.

    Args:
        trees: whether responses begin alike, and have several texts.
    """
    first = 0
    groups = []
    flat = make_groups(SHAPES, holes=True)
    for group in grown(flat, forks=True) if trees else flat:
        responses = []
        for response in group.responses:
            numbers = torch.arange(first, first + len(response.tokens), dtype=torch.float32)
            responses.append(replace(response, advantages=numbers))
            first += len(numbers)
        groups.append(replace(group, responses=tuple(responses)))
    return groups


def by_policy(model: PreTrainedModel, route: Route, budget: int, trees: bool = False) -> Measured:
    """By a route, in microbatches of so many tokens."""
    policy, groups = Model(model, tokenizer=None, route=route), numbered_groups(trees)
    found = []
    for microbatch in policy.pack(groups, budget):
        logprob = policy.score(microbatch, [Score.LOGPROB]).logprob
        found.append((microbatch.advantages.long(), logprob))
    numbers, logprobs = (torch.cat(each) for each in zip(*found, strict=True))
    return _measured(model, numbers, logprobs)


def by_transformers(model: PreTrainedModel, trees: bool = False) -> Measured:
    """One unpadded forward of the untouched model per text of a response."""
    with plain_attention(model):
        found = list(_plain(model, numbered_groups(trees)))
    numbers, logprobs = (torch.cat(each) for each in zip(*found, strict=True))
    return _measured(model, numbers, logprobs)


def _plain(model: PreTrainedModel, groups: Sequence[Group]) -> Iterator[tuple[Tensor, Tensor]]:
    for group in groups:
        for response in group.responses:
            for sequence, (start, end, _) in zip(response.sequences, response.texts, strict=True):
                tokens = torch.cat([group.prompt, sequence])
                logits = model(input_ids=tokens[None], use_cache=False).logits[0, start - end - 1 : -1]
                logprobs = logits.log_softmax(-1).gather(1, tokens[start - end :, None])[:, 0]
                trainable = response.trainable[start:end]
                yield response.advantages[start:end][trainable].long(), logprobs[trainable]


def _measured(model: PreTrainedModel, numbers: Tensor, logprobs: Tensor) -> Measured:
    direction = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    (logprobs @ direction[numbers]).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return Measured(logprobs.detach()[numbers.argsort()], gradients)


def difference(mine: Measured, theirs: Measured) -> Difference:
    assert mine.gradients.keys() == theirs.gradients.keys(), "the same parameters have gradients"
    sizes = {name: float(gradient.abs().max()) for name, gradient in theirs.gradients.items()}
    least = 1e-3 * max(sizes.values())
    gradients = [
        float((mine.gradients[name] - gradient).abs().max()) / max(sizes[name], least)
        for name, gradient in theirs.gradients.items()
    ]
    return Difference(float((mine.logprobs - theirs.logprobs).abs().max()), max(gradients))


def plain_logprobs(model: PreTrainedModel, groups: list[Group]) -> Tensor:
    """[trained tokens] one unpadded forward of the untouched model per response, with its graph."""
    collected = []
    with plain_attention(model):
        for group in groups:
            for response in group.responses:
                logits = model(input_ids=torch.cat([group.prompt, response.tokens])[None], use_cache=False).logits[0]
                logprobs = logits[len(group.prompt) - 1 : -1].log_softmax(-1)
                collected.append(logprobs.gather(1, response.tokens[:, None])[response.trainable, 0])
    return torch.cat(collected)


def gradients(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    """Of everything that trains, by name."""
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
