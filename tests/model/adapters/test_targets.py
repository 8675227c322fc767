"""Names of adapted layers and of modules that train whole, and refusals."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from burnish.errors import ModelError
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.targets import target_names
from burnish.model.policy import Model
from burnish.optim.rates import loraplus_factors
from burnish.types import Score
from tests.conftest import FAMILIES, SIZES, make_groups

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}


def named(**options: object) -> list[str]:
    return target_names(FAMILIES["llama"](), AdapterSettings(**options))


@pytest.mark.parametrize(
    ("options", "layers", "leaves"),
    [
        ({}, {0, 1}, ATTENTION | MLP),
        ({"targets": "attention"}, {0, 1}, ATTENTION),
        ({"targets": "mlp"}, {0, 1}, MLP),
        ({"targets": ("q_proj", "mlp.up_proj")}, {0, 1}, {"q_proj", "up_proj"}),
        ({"targets": r"1\..*(q|down)_proj$"}, {1}, {"q_proj", "down_proj"}),
        ({"targets": "attention", "layers": (1,)}, {1}, ATTENTION),
        ({"layers": (0,), "kind": "ia3"}, {0}, ATTENTION | MLP),
    ],
)
def test_choices(options, layers, leaves):
    names = [name.split(".") for name in named(**options)]
    assert {int(parts[2]) for parts in names} == layers
    assert {parts[-1] for parts in names} == leaves


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": ("q_proj", "qproj")}, "names qproj"),
        ({"targets": ("lm_head",)}, "takes no adapter"),
        ({"targets": ("input_layernorm",)}, "a LlamaRMSNorm"),
        ({"targets": ("embed_tokens",), "kind": "loha"}, "LoRA also for embeddings"),
        ({"targets": "nothing_like_it"}, "found in their full names"),
        ({"targets": "attention", "layers": (2,)}, "has 2"),
        ({"modules_to_save": ("nrm",)}, "names modules that train whole"),
        ({"modules_to_save": ("mlp",)}, "both name"),
        ({"target_experts": True}, "no experts"),
        ({"rank_pattern": {"qproj": 3}}, "adapter.rank_pattern names qproj"),
        ({"init": "pissa", "rank": 40}, "at most the matrix's rank"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(ModelError, match=words.replace(".", r"\.")):
        add_adapter(FAMILIES["llama"](), AdapterSettings(**options))


def test_ranks_and_alphas_of_their_own():
    model = add_adapter(
        FAMILIES["llama"](),
        AdapterSettings(rank=4, alpha=8.0, rank_pattern={"q_proj": 6}, alpha_pattern={r"1\.mlp\.up_proj": 2.0}),
    )
    layers = model.get_base_model().model.layers
    assert layers[0].self_attn.q_proj.r["default"] == 6
    assert layers[0].self_attn.k_proj.r["default"] == 4
    assert [layer.mlp.up_proj.scaling["default"] for layer in layers] == [2.0, 0.5]


def test_lora_plus_names_every_b():
    model = add_adapter(FAMILIES["llama"](), AdapterSettings(rank=4, modules_to_save=("norm",)))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    factors = loraplus_factors(names, 16.0)
    assert set(factors) == {name for name in names if "lora_B" in name}
    assert set(factors.values()) == {16.0}


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
@pytest.mark.parametrize("whole", [("embed_tokens",), ("lm_head",), ("embed_tokens", "norm")])
def test_embedding_and_head_train_whole(float64_model, family, whole):
    """Of tied ones, one matrix trains, as embedding and as head; scoring's gradient is plain transformers'."""
    from burnish.model.attention import install
    from tests.equality import gradients, plain_logprobs

    base = float64_model(family)
    install(base)
    model = add_adapter(base, AdapterSettings(rank=2, modules_to_save=whole)).double()
    trained = {name for name, p in model.named_parameters() if p.requires_grad and "modules_to_save" in name}
    assert len(trained) == len(whole)
    policy, groups = Model(model, None), make_groups([(5, [4]), (3, [2, 6])])
    tied = family == "llama-tied"
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    assert (embedding.weight.data_ptr() == head.weight.data_ptr()) == tied
    [microbatch] = policy.pack(groups, 100)
    packed, plain = policy.score(microbatch, [Score.LOGPROB]).logprob, plain_logprobs(model, groups)
    assert torch.allclose(packed, plain, rtol=0, atol=1e-12)
    mine, theirs = gradients(model, packed.sum()), gradients(model, plain.sum())
    assert trained <= mine.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(mine[name], gradient, rtol=1e-9, atol=1e-11), name


def test_a_tied_embedding_trains_whole_only_with_lora():
    with pytest.raises(ModelError, match="is its head too"):
        add_adapter(FAMILIES["llama-tied"](), AdapterSettings(kind="loha", modules_to_save=("lm_head",)))


def test_names_that_peft_takes_for_experts_are_refused():
    """Where some layers have no experts, peft would adapt the experts of others instead, without a word."""
    few = {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "mlp_only_layers": [0]}
    config = Qwen3MoeConfig(**few, head_dim=8)
    with pytest.raises(ModelError, match="get no adapter"):
        add_adapter(Qwen3MoeForCausalLM(config), AdapterSettings(rank=2))
    add_adapter(Qwen3MoeForCausalLM(config), AdapterSettings(rank=2, targets="attention", target_experts=True))
