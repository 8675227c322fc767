"""FLOPs of a training step, against torch's own counter of what is really computed."""

from __future__ import annotations

import math

import pytest
import torch
from peft import PeftModel
from torch.utils.flop_counter import FlopCounterMode

from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install
from burnish.model.linear import has_onednn
from burnish.model.policy import Model
from burnish.model.route import Route
from burnish.packing import count_denominators
from burnish.train.step import evaluate_loss, sum_terms
from tests.conftest import FAMILIES, make_groups

SHAPES = [(5, [7]), (3, [4, 6]), (9, [2])]
TOKENS, SCORED = 12 + 13 + 11, 7 + 10 + 2
PRODUCTS = {"aten.mm", "aten.addmm", "aten.bmm", "mkldnn._linear_pointwise"}


def linear_flops(rows, matrix, *_, **__) -> int:
    """The counter is given shapes: [M, K] and [N, K]."""
    return 2 * math.prod(rows) * matrix[0]


MORE_PRODUCTS = {torch.ops.mkldnn._linear_pointwise: linear_flops} if has_onednn() else {}


def make_policy(family: str, *, lora: bool) -> Model:
    torch.manual_seed(0)
    model = FAMILIES[family]()
    install(model)
    trained = add_adapter(model, AdapterSettings(rank=4)) if lora else model
    return Model(trained.train(), None)


def counted(policy: Model, groups) -> int:
    """FLOPs of matrix products (without attention's own) of one forward and backward."""
    [microbatch] = policy.pack(groups, 100)
    denominators = count_denominators(groups)
    with FlopCounterMode(display=False, custom_mapping=MORE_PRODUCTS) as counter:
        output = evaluate_loss(policy, microbatch, CrossEntropy(), denominators)
        sum_terms(output, denominators).backward()
    seen = sum(count for name, count in counter.get_flop_counts()["Global"].items() if str(name) in PRODUCTS)
    # The counter of torch 2.13 does not know addmm_, by which scoring adds up the gradient of a trained head.
    return seen + (2 * SCORED * policy.head.weight.numel() if policy.head.weight.requires_grad else 0)


def predicted(policy: Model, groups) -> float:
    """Ours, without attention's pairs and without what is no matrix (norms, biases), which the counter leaves out."""
    cost = policy.training_cost
    vectors = [p for p in policy.causal_lm.get_decoder().parameters() if p.ndim < 2]
    per_token = cost.per_token - sum((6 if p.requires_grad else 4) * p.numel() for p in vectors)
    return per_token * TOKENS + cost.per_scored * SCORED


@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen3", "mistral"])
def test_full_training_costs_three_forwards(family):
    policy, groups = make_policy(family, lora=False), make_groups(SHAPES)
    assert predicted(policy, groups) == counted(policy, groups)
    assert policy.training_cost.per_token == 3 * policy.cost.per_token
    assert policy.training_cost.per_scored == 3 * policy.cost.per_scored


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_frozen_weights_cost_two_thirds(family):
    """Exact but for the first layer's queries, keys and values, whose input needs no gradient, and their adapters."""
    policy, groups = make_policy(family, lora=True), make_groups(SHAPES)
    assert isinstance(policy.model, PeftModel)
    first = policy.causal_lm.get_decoder().layers[0].self_attn
    spared = 0
    for layer in (first.q_proj, first.k_proj, first.v_proj):
        spared += 2 * TOKENS * (layer.base_layer.weight.numel() + layer.lora_A["default"].weight.numel())
    assert predicted(policy, groups) - spared == counted(policy, groups)


@pytest.mark.parametrize("family", ["mixtral", "qwen3-moe", "glm-4-moe", "gpt-oss"])
def test_experts_count_as_those_that_a_token_visits(family):
    """The loop over experts multiplies the tokens of each expert by its weights, and no others."""
    policy, groups = make_policy(family, lora=False), make_groups(SHAPES)
    policy.causal_lm.set_experts_implementation("eager")
    biases = [p for name, p in policy.causal_lm.get_decoder().named_parameters() if "proj_bias" in name]
    not_products = 6 * sum(p.numel() for p in biases) / 2 * TOKENS  # of gpt-oss: two of four experts, as above
    assert predicted(policy, groups) - not_products == counted(policy, groups)
    assert policy.training_cost.per_token == 3 * policy.cost.per_token


def test_attention_of_a_hybrid_counts_its_own_layers():
    """One of two layers attends, and none of a model that keeps a state alone; latent heads have two sizes."""
    per_pair = {
        family: make_policy(family, lora=False).cost.per_pair for family in ("qwen3-next", "mamba", "deepseek-v3")
    }
    assert per_pair == {"qwen3-next": 4 * 1 * 4 * 8, "mamba": 0, "deepseek-v3": 2 * 2 * 4 * (12 + 6)}


def test_checkpointing_does_not_count():
    """What is computed again is work of the machine, not of the model."""
    policy, groups = make_policy("llama", lora=False), make_groups(SHAPES)
    before = policy.num_flops(groups)
    policy.causal_lm.activation_checkpointing_enable({"use_reentrant": False})
    assert policy.num_flops(groups) == before
    assert counted(policy, groups) > predicted(policy, groups)


def test_attention_by_hand():
    """A prompt of 3 with responses of 4 and 6: two triangles and a block of pairs, three times forwards' 4·L·H·D."""
    policy, groups = make_policy("llama", lora=False), make_groups([(3, [4, 6])])
    pairs = 7 * 8 / 2 + 6 * 7 / 2 + 6 * 3
    per_pair = 3 * 4 * 2 * 4 * 8
    cost = policy.training_cost
    assert policy.num_flops(groups) == cost.per_token * 13 + per_pair * pairs + cost.per_scored * 10


def test_a_model_that_cannot_share_computes_prompts_again():
    policy, groups = make_policy("llama", lora=False), make_groups([(3, [4, 6])])
    alone = Model(policy.model, None, Route.EXPANDED)
    assert alone.num_flops(groups) == policy.num_flops([*groups[0].expanded()]) > policy.num_flops(groups)
