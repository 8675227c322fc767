"""Groups with images give the log-probabilities and gradients of plain transformers, however they are packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from burnish.model.attention import plain_attention
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.types import Group, Score
from tests.vision.groups import group_of, plain_logprobs, policy_of
from tests.vision.small import FAMILIES, SmallFamily

EACH_FAMILY = pytest.mark.parametrize("small", FAMILIES, ids=lambda small: small.name)
ROWS = (
    ("<|user|>\nwhat is #?<|end|>\n<|assistant|>\n", ((1, 40, 24),), ("a cat", "a dog, I think", "no")),
    ("<|user|>\n# and # differ?", ((2, 24, 56), (3, 64, 64)), ("yes", "not at all")),
    ("<|user|>\nno image", (), ("a", "bc")),
    ("#first", ((1, 40, 24),), ("one",)),
)


def groups_of(policy: Model, folder: Path) -> list[Group]:
    return [group_of(policy, text, pictures, answers, folder) for text, pictures, answers in ROWS]


def scored(policy: Model, groups: list[Group], budget: int) -> Tensor:
    """[sum of R] log-probabilities in the order of groups and responses."""
    found: dict[tuple[int, int], Tensor] = {}
    for microbatch in policy.pack(groups, budget):
        values = policy.score(microbatch, [Score.LOGPROB]).of(Score.LOGPROB)
        for number in range(microbatch.num_sequences):
            key = int(microbatch.sequence_group[number]), int(microbatch.sequence_index[number])
            found[key] = values[microbatch.sequence == number]
    return torch.cat([found[key] for key in sorted(found)])


def gradients(policy: Model, loss: Tensor) -> dict[str, Tensor]:
    named = {name: p for name, p in policy.causal_lm.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


@EACH_FAMILY
@pytest.mark.parametrize("route", [Route.SHARED, Route.EXPANDED])
@pytest.mark.parametrize("budget", [10_000, 300, 1])
def test_log_probabilities_and_gradients_are_those_of_plain_transformers(
    small: SmallFamily, route: Route, budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(small, tmp_path, route, monkeypatch)
    groups = groups_of(policy, tmp_path)
    longest = max(len(group.prompt) + len(r.tokens) for group in groups for r in group.responses)
    ours = scored(policy, groups, max(budget, longest))
    with plain_attention(policy.causal_lm):
        policy.causal_lm.eval()
        plain = torch.cat(
            [
                plain_logprobs(policy.causal_lm, policy, group, pictures)
                for group, (_, pictures, _) in zip(groups, ROWS, strict=True)
            ]
        )
        assert torch.allclose(ours, plain, rtol=0, atol=1e-10)
        weights = torch.linspace(-1, 2, len(plain), dtype=plain.dtype)
        wanted = gradients(policy, (plain * weights).sum())
    policy.causal_lm.train()
    found = gradients(policy, (ours * weights).sum())
    assert any("vis" in name and bool(gradient.abs().sum() > 1e-6) for name, gradient in found.items())
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).abs().max()) <= 1e-10 * max(1.0, float(gradient.abs().max())), name
