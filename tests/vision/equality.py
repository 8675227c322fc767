"""Differences of groups with images from plain transformers: log-probabilities and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from burnish.model.attention import plain_attention
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.types import Group, Score
from tests.vision.groups import group_of, plain_logprobs, policy_of
from tests.vision.small import SmallFamily

ROWS = (
    ("<|user|>\nwhat is #?<|end|>\n<|assistant|>\n", ((1, 40, 24),), ("a cat", "a dog, I think", "no")),
    ("<|user|>\n# and # differ?", ((2, 24, 56), (3, 64, 64)), ("yes", "not at all")),
    ("<|user|>\nno image", (), ("a", "bc")),
    ("#first", ((1, 40, 24),), ("one",)),
)
ROUTES = (Route.SHARED, Route.EXPANDED)
BUDGETS = (10_000, 300, 1)
"""Tokens of a microbatch: all together, some, one group each."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Largest differences of a family from plain transformers."""

    logprob: float
    gradient: float
    """Of any weight, relative to the largest gradient of its tensor, or absolute where that is below 1."""
    worst: str
    """Name of that tensor."""
    into_tower: float
    """Largest gradient of a weight of the vision tower."""


def groups_of(policy: Model, folder: Path) -> list[Group]:
    """The groups of `ROWS`."""
    return [group_of(policy, text, pictures, answers, folder) for text, pictures, answers in ROWS]


def scored(policy: Model, groups: list[Group], budget: int) -> Tensor:
    """[sum of R] log-probabilities in the order of groups and responses."""
    found: dict[tuple[int, int], Tensor] = {}
    for microbatch in (part.to(policy.device) for part in policy.pack(groups, budget)):
        values = policy.score(microbatch, [Score.LOGPROB]).of(Score.LOGPROB)
        for number in range(microbatch.num_sequences):
            key = int(microbatch.sequence_group[number]), int(microbatch.sequence_index[number])
            found[key] = values[microbatch.sequence == number]
    return torch.cat([found[key] for key in sorted(found)])


def gradients(policy: Model, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of every trained weight, by its name."""
    named = {name: p for name, p in policy.causal_lm.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


def furthest(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> tuple[float, str]:
    """Largest difference of gradients, as in `Difference.gradient`, and the tensor that has it."""
    return max(
        (float((found[name] - each).abs().max()) / max(1.0, float(each.abs().max())), name)
        for name, each in wanted.items()
    )


def difference(
    small: SmallFamily,
    folder: Path,
    route: Route,
    budget: int,
    patch: pytest.MonkeyPatch,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float64,
) -> Difference:
    """Differences of `ROWS` on a route, packed by this budget (or what the longest sequence needs).

    Args:
        device: None: the CPU.
    """
    policy = policy_of(small, folder, route, patch, device=device, dtype=dtype)
    groups = groups_of(policy, folder)
    longest = max(len(group.prompt) + len(r.tokens) for group in groups for r in group.responses)
    ours = scored(policy, groups, max(budget, longest))
    with plain_attention(policy.causal_lm):
        policy.causal_lm.eval()
        shown = zip(groups, ROWS, strict=True)
        plain = torch.cat([plain_logprobs(policy.causal_lm, policy, group, row[1]) for group, row in shown])
        weights = torch.linspace(-1, 2, len(plain), dtype=plain.dtype, device=plain.device)
        wanted = gradients(policy, (plain * weights).sum())
    policy.causal_lm.train()
    found = gradients(policy, (ours * weights).sum())
    apart, worst = furthest(found, wanted)
    tower = max(float(each.abs().max()) for name, each in found.items() if "vis" in name)
    return Difference(float((ours - plain).detach().abs().max()), apart, worst, tower)
