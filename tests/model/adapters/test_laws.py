"""The laws of every adapter: its beginning is the base, packed is plain, sizes are the papers', merging adds it."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.initial import has_beginning
from burnish.model.adapters.kinds import KINDS
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.types import Score
from tests.conftest import make_groups
from tests.equality import SHAPES, gradients, plain_logprobs
from tests.families import FAMILIES, Float64Torch
from tests.model.adapters.cases import CASES

TRIED = ("llama", "qwen3")


def adapted(model, title):
    """With peft's switch to float32 undone, and the adapter's numbers in the model's type."""
    return add_adapter(model, CASES[title].settings).double().train()


def moved(model) -> None:
    """As if something had been learned."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("family", TRIED)
@pytest.mark.parametrize("title", CASES)
def test_the_laws(float64_model, family, title):
    """In float64, on one model: beginning, gradients, adapter off, and the merged weights."""
    case, base, groups = CASES[title], float64_model(family), make_groups(SHAPES, holes=True)
    install(base)
    [microbatch] = Model(base, None).pack(groups, 200)
    before = Model(base, None).score(microbatch, [Score.LOGPROB]).logprob.detach()
    model = adapted(base, title)
    policy = Model(model, None)

    initial = policy.score(microbatch, [Score.LOGPROB]).logprob.detach()
    # Factors of PiSSA and OLoRA are float32 numbers like all adapters', added and subtracted in float64.
    assert torch.allclose(initial, before, rtol=0, atol=0 if case.begins == "exactly" else 1e-12)

    moved(model)
    packed, plain = policy.score(microbatch, [Score.LOGPROB]).logprob, plain_logprobs(model, groups)
    assert (packed - before).abs().max() > 1e-4, "the adapter does something"
    assert torch.allclose(packed, plain, rtol=0, atol=1e-12)
    direction = torch.randn(len(plain), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mine, theirs = gradients(model, packed @ direction), gradients(model, plain @ direction)
    assert mine.keys() == theirs.keys() == {name for name, _ in policy.trained_parameters()}
    for name, gradient in theirs.items():
        assert torch.allclose(mine[name], gradient, rtol=1e-9, atol=1e-11), name

    with model.disable_adapter():
        off = policy.score(microbatch, [Score.LOGPROB]).logprob
    assert torch.equal(off, before), "switched off, it is the base bit for bit"
    assert {name for name, _ in policy.trained_parameters()} == mine.keys(), "and switched on again, the same train"

    merged = plain_logprobs(model.merge_and_unload(), groups)
    assert torch.allclose(merged, plain, rtol=0, atol=1e-11)


def sizes(model) -> list[tuple[int, int]]:
    head = model.get_output_embeddings()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
    return [tuple(layer.weight.shape) for layer in layers]


@pytest.mark.parametrize("title", CASES)
def test_as_many_parameters_as_the_paper_says(title):
    model, case = FAMILIES["llama"](), CASES[title]
    linear = sizes(model)
    expected = sum(case.parameters(out, into) for out, into in linear)
    if title == "IA3":  # of a feed-forward's last layer, the inputs are scaled
        expected += sum(into - out for out, into in linear if (out, into) == (32, 48))
    trained = add_adapter(model, case.settings)
    assert sum(p.numel() for p in trained.parameters() if p.requires_grad) == expected


def test_lora_by_hand():
    """32 hidden, 48 inside, 16 of keys and values, 2 layers: 4 · (64 + 48 + 48 + 64 + 80 + 80 + 80) · 2."""
    trained = add_adapter(FAMILIES["llama"](), CASES["LoRA"].settings)
    assert sum(p.numel() for p in trained.parameters() if p.requires_grad) == 3712


@pytest.mark.parametrize("title", CASES)
def test_adapters_are_float32_on_narrow_weights(title):
    model = FAMILIES["llama"]().to(torch.bfloat16)
    trained = add_adapter(model, CASES[title].settings)
    assert {p.dtype for p in trained.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} <= {torch.bfloat16, torch.float32}


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_pissa_and_olora_are_those_of_peft(init):
    """peft moves a part of the weights into the adapter; ours subtracts what it began with: one function of A and B."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = FAMILIES["llama"]()
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=init)
    theirs = get_peft_model(base, config)
    other = FAMILIES["llama"]()
    other.load_state_dict(state)
    mine = add_adapter(other, CASES["PiSSA" if init == "pissa" else "OLoRA"].settings)
    assert has_beginning(mine)
    wanted = dict(theirs.named_parameters())
    for name, parameter in mine.named_parameters():
        if parameter.requires_grad:
            assert torch.allclose(parameter, wanted[name], rtol=1e-5, atol=1e-6), name
    moved_alike = torch.Generator().manual_seed(3)
    for name, parameter in mine.named_parameters():
        if parameter.requires_grad:
            change = 0.05 * torch.randn(parameter.shape, generator=moved_alike)
            parameter.data += change
            wanted[name].data += change
    ids = torch.randint(61, (1, 12), generator=moved_alike)
    outputs = [model(input_ids=ids).logits for model in (mine, theirs)]
    assert torch.allclose(*outputs, rtol=0, atol=1e-4)
    grads = [gradients(model, output.square().sum()) for model, output in zip((mine, theirs), outputs, strict=True)]
    assert grads[0].keys() == grads[1].keys()
    for name, gradient in grads[1].items():
        assert torch.allclose(grads[0][name], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max())), name


def test_pissa_by_hand():
    """diag(3, 2, 1): the first singular value, split evenly over both factors."""
    from burnish.model.adapters.initial import orthonormal, principal

    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    a, b = principal(weight, 1)
    assert torch.allclose(b @ a, torch.diag(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)))
    assert float(a.norm()) == pytest.approx(3**0.5)
    a, b = orthonormal(weight, 2)
    assert torch.allclose(b.T @ b, torch.eye(2, dtype=torch.float64))
    assert torch.allclose(b @ a, torch.diag(torch.tensor([3.0, 2.0, 0.0], dtype=torch.float64)))


def test_experts(monkeypatch):
    """Mixtral and Qwen3-MoE: LoRA on experts in one tensor, packed as plain, and the merged weights."""
    from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    from burnish.model.adapters.settings import AdapterSettings
    from tests.conftest import SIZES

    few = {**SIZES, "num_experts_per_tok": 2, "head_dim": 8}
    models = [
        MixtralForCausalLM(MixtralConfig(**few, num_local_experts=4, sliding_window=None)),
        Qwen3MoeForCausalLM(Qwen3MoeConfig(**few, num_experts=4, moe_intermediate_size=16, mlp_only_layers=[])),
    ]
    for model in models:
        monkeypatch.setattr(importlib.import_module(type(model).__module__), "torch", Float64Torch())
        model.config._experts_implementation = "eager"  # float64 has no grouped product
        for parameter in model.parameters():
            parameter.data.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
        model = model.double()  # noqa: PLW2901
        install(model)
        groups = make_groups([(5, [4]), (3, [2, 6])])
        [microbatch] = Model(model, None).pack(groups, 100)
        before = Model(model, None).score(microbatch, [Score.LOGPROB]).logprob.detach()
        trained = add_adapter(model, AdapterSettings(rank=2, target_experts=True, targets="attention")).double()
        adapted_names = [name for name, p in trained.named_parameters() if p.requires_grad and "experts" in name]
        assert len(adapted_names) == 2 * 2 * 2, "two factors of two tensors in two layers"
        assert torch.equal(Model(trained, None).score(microbatch, [Score.LOGPROB]).logprob, before)
        moved(trained)
        # Routers round to float32 by a method, which shows where gradients of a shared prompt are added before it.
        policy = Model(trained, None, Route.EXPANDED)
        [microbatch] = policy.pack(groups, 100)
        packed, plain = policy.score(microbatch, [Score.LOGPROB]).logprob, plain_logprobs(trained, groups)
        assert (packed - before).abs().max() > 1e-4
        assert torch.allclose(packed, plain, rtol=0, atol=1e-12)
        mine, theirs = gradients(trained, packed.sum()), gradients(trained, plain.sum())
        for name, gradient in theirs.items():
            assert torch.allclose(mine[name], gradient, rtol=1e-9, atol=1e-11), name
        merged = plain_logprobs(trained.merge_and_unload(), groups)
        assert torch.allclose(merged, plain, rtol=0, atol=1e-11)


def test_every_kind_is_tried():
    assert {case.settings.kind for case in CASES.values()} == set(KINDS)
