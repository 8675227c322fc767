"""Every family by every route that it can take: log-probabilities and gradients equal transformers' own, in float64."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from burnish.errors import ModelError
from burnish.layout import Segment
from burnish.model import segments
from burnish.model.attention import NAME, install, uninstall
from burnish.model.policy import Model
from burnish.model.probe import probe
from burnish.model.route import Route
from burnish.types import Score
from tests.equality import SPLIT, WHOLE, by_policy, by_transformers, difference, numbered_groups
from tests.families import FAMILIES, REFUSED, ROUTES, route_of


def made(family: str) -> PreTrainedModel:
    """In float32, packed attention installed."""
    torch.manual_seed(0)
    model = {**FAMILIES, **REFUSED}[family]()
    install(model)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_route_equals_transformers(float64_model, family):
    """In one microbatch and in many."""
    model = float64_model(family)
    install(model)
    if route_of(family) is Route.UNPACKED:
        uninstall(model)
    plain = by_transformers(model)
    for route in ROUTES[route_of(family)]:
        for budget in (WHOLE, SPLIT):
            found = difference(by_policy(model, route, budget), plain)
            assert found.logprob < 1e-13, route
            assert found.gradient < 1e-12, route


@pytest.mark.parametrize("family", ["gpt-oss", "gemma-2", "llama-4", "deepseek-v3", "mamba", "qwen3-next"])
def test_layers_that_are_computed_again_give_the_same_gradient(float64_model, family):
    """Sinks, caps, chunks and latent heads reach the recomputation; so does a model that runs sequences alone."""
    model = float64_model(family)
    install(model)
    if route_of(family) is Route.UNPACKED:
        uninstall(model)
    kept = by_policy(model, route_of(family), WHOLE)
    model.activation_checkpointing_enable({"use_reentrant": False})
    again = difference(by_policy(model, route_of(family), WHOLE), kept)
    assert again.logprob == 0
    assert again.gradient < 1e-13


@pytest.mark.parametrize("family", FAMILIES)
def test_the_probe_finds_the_route(family):
    found = probe(made(family))
    assert found.route is route_of(family)
    assert (found.reason is None) == (found.route is Route.SHARED)


@pytest.mark.parametrize("family", ["lfm2", "jamba", "qwen3-next"])
def test_the_probe_finds_leaks_that_log_probabilities_do_not_show(family):
    """In an untrained model of 16 bits, a convolution over two tokens moves log-probabilities by less than rounding."""
    model = made(family).to(torch.bfloat16)
    groups = numbered_groups()
    shared, alone = (Model(model, None, route) for route in (Route.SHARED, Route.EXPANDED))
    with torch.no_grad():
        leaking, other = (
            policy.score(policy.pack(groups, 300)[0], [Score.LOGPROB]).logprob for policy in (shared, alone)
        )
    assert (leaking - other).abs().mean() < 0.1  # what the probe allows between 16-bit forwards
    assert probe(model).route is Route.UNPACKED


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("bert", r"differ by [\d.]+ from the plain"),
        ("phi-3.5-moe", "random numbers"),
        ("gemma-3, two-way", "what comes after"),
    ],
)
def test_what_no_route_computes_is_refused_with_the_reason(family, reason):
    with pytest.raises(ModelError, match=reason):
        probe(made(family))


def test_what_is_random_in_training_alone_can_be_evaluated():
    """Phi-3.5-MoE draws its experts in training, and takes the best in evaluation."""
    model = made("phi-3.5-moe").eval()
    assert probe(model).route is Route.SHARED
    assert not model.training


def test_sequences_that_see_each_other_run_alone(monkeypatch):
    """An architecture whose attention ignores the layout is found out."""
    model = made("llama")

    def ignoring(module, query, key, value, mask, *, scaling=None, **_):
        output = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
        return output.transpose(1, 2), None

    monkeypatch.setitem(AttentionInterface._global_mapping, NAME + "sdpa", ignoring)
    found = probe(model)
    assert found.route is Route.UNPACKED
    assert "differ by" in found.reason
    assert model.config._attn_implementation == "sdpa"


def test_the_probe_expands_what_cannot_be_shared(monkeypatch):
    """Attention that is right for plain packed rows, but blind to contexts, runs on expanded groups."""
    model = made("llama")
    true_attend = segments._attend

    def blind(query, key, value, segment, two_way, extras):
        if segment.context:
            key, value = key[:, :, segment.context_length :], value[:, :, segment.context_length :]
            segment = Segment(segment.start, segment.length)
        return true_attend(query, key, value, segment, two_way, extras)

    monkeypatch.setattr(segments, "_attend", blind)
    found = probe(model)
    assert found.route is Route.EXPANDED
    assert "differ by" in found.reason


def test_attention_with_something_unknown_runs_alone(monkeypatch):
    """A bias by position (ALiBi and its like) would otherwise be dropped without a word."""
    model = made("llama")
    layer = type(model.model.layers[0].self_attn)
    true_forward = layer.forward
    monkeypatch.setattr(
        layer, "forward", lambda *args, **rest: true_forward(*args, **rest, position_bias=torch.ones(1))
    )
    found = probe(model)
    assert found.route is Route.UNPACKED
    assert "position_bias" in found.reason


def test_groups_of_experts_equal_the_loop_over_them():
    """float32 runs grouped, float64 expert by expert."""
    model = made("mixtral")
    experts = model.model.layers[0].mlp.experts
    for parameter in experts.parameters():
        parameter.data.normal_(0.0, 0.3)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(20, 32, generator=generator)
    chosen = torch.stack([torch.randperm(4, generator=generator)[:2] for _ in range(20)])
    weights = torch.rand(20, 2, generator=generator)
    results = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype).zero_grad()
        output = experts(hidden.to(dtype), chosen, weights.to(dtype))
        output.square().sum().backward()
        results.append((output.detach().double(), experts.gate_up_proj.grad.double()))
    for grouped, loop in zip(*results, strict=True):
        assert torch.allclose(grouped, loop, rtol=1e-4, atol=1e-5 * loop.abs().max().item())
