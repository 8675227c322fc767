"""The invariance law for trees: shared beginnings and several texts change no log-probability and no gradient.

Every family that shares, by transformers' own forward of every text alone, in float64. The suite of losses has every
loss on trees, `test_prefix_tree` the packing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.model import attention, segments
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.probe import probe
from burnish.model.route import Route
from burnish.packing import pack, pack_singly
from burnish.types import Group, Score
from tests.equality import SPLIT, WHOLE, by_policy, by_transformers, difference, numbered_groups
from tests.families import ALONE, FAMILIES, in_float64
from tests.trees import trees

EVERY_RUN = (
    "llama-4",
    "qwen2-moe",
    "qwen3-windowed",
    "mistral-windowed",
    "gemma-2",
    "gemma-3",
    "phi-3",
    "deepseek-v3",
    "gpt-oss",
    "gpt-2",
)
"""Chunks, experts, windows, soft-caps, latent heads, sinks, learned positions; the others are in the slow tests."""
SHARING = [
    pytest.param(family, marks=() if family in EVERY_RUN else pytest.mark.slow)
    for family in FAMILIES
    if family not in ALONE
]


@pytest.mark.parametrize("family", SHARING)
def test_every_family_shares_exactly(float64_model, family):
    """In one microbatch, cut, and with every text whole."""
    assert any(group.tree is not None for group in numbered_groups(trees=True))
    model = float64_model(family)
    install(model)
    plain = by_transformers(model, trees=True)
    for route, budget in ((Route.SHARED, WHOLE), (Route.SHARED, SPLIT), (Route.EXPANDED, WHOLE)):
        found = difference(by_policy(model, route, budget, trees=True), plain)
        assert found.logprob < 1e-13, (route, budget)
        assert found.gradient < 1e-12, (route, budget)


@pytest.mark.parametrize("family", ["llama-4", "gemma-2", "gpt-oss", "deepseek-v3"])
def test_layers_that_are_computed_again_give_the_same_gradient(float64_model, family):
    model = float64_model(family)
    install(model)
    kept = by_policy(model, Route.SHARED, WHOLE, trees=True)
    model.activation_checkpointing_enable({"use_reentrant": False})
    again = difference(by_policy(model, Route.SHARED, WHOLE, trees=True), kept)
    assert again.logprob == 0
    assert again.gradient < 1e-13


@pytest.fixture(scope="module")
def windowed() -> Iterator[Model]:
    with pytest.MonkeyPatch.context() as patch:
        model = in_float64("qwen3-windowed", patch)
        install(model)
        yield Model(model, tokenizer=None)


@settings(max_examples=40)
@given(groups=st.lists(trees(max_length=9), min_size=1, max_size=3), slack=st.integers(0, 30))
def test_any_tree_in_any_budget(windowed, groups, slack):
    """Budgets down to the longest sequence; the gradient of every weight."""
    longest = max(len(group.prompt) + len(response.tokens) for group in groups for response in group.responses)
    expected = gradients(windowed, groups, pack_singly(groups))
    found = gradients(windowed, groups, pack(groups, longest + slack))
    for name, value in expected.items():
        assert float((found[name] - value).abs().max()) <= 1e-11 * max(1.0, float(value.abs().max())), name


def gradients(policy: Model, groups: list[Group], microbatches: list) -> dict[str, torch.Tensor]:
    """Of a sum over all trained tokens, each with a factor of its own."""
    policy.model.zero_grad()
    for microbatch in microbatches:
        factors = 1.0 + microbatch.sequence_index[microbatch.sequence] + 0.1 * microbatch.response_positions
        (policy.score(microbatch, [Score.LOGPROB]).logprob * factors).sum().backward()
    return {name: p.grad.clone() for name, p in policy.trained_parameters()}


def test_the_probe_tries_a_tree(monkeypatch):
    """A kernel that reads the first piece of a context alone is found out."""
    torch.manual_seed(0)
    model = FAMILIES["llama"]()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.v_proj.weight *= 30  # a new model hardly attends
    install(model)
    true_attend = segments.attend_segments

    def forgetful(query, key, value, layout, options):
        cut = tuple(replace(segment, context=segment.context[:1]) for segment in layout.segments)
        return true_attend(query, key, value, replace(layout, segments=cut), options)

    monkeypatch.setattr(attention, "attend_segments", forgetful)
    assert probe(model).route is Route.EXPANDED
