"""What divided weights cannot be used with is refused, with what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from burnish.errors import ModelError, RecipeError
from burnish.model.decoder import decoder_of
from burnish.parallel.groups import Group
from burnish.parallel.tensor import Slices
from burnish.recipe.read import stage_recipe
from burnish.settings.parallel import Parallel

RECIPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "qlora": ("sft", {"adapter": {"kind": "qlora"}, "parallel": {"shard": 2}}, "quantized weights are not divided"),
    "muon": ("sft", {"optimizer": {"kind": "muon"}, "parallel": {"tensor": 2}}, "optimizer.kind: muon"),
    "adafactor": ("sft", {"optimizer": {"kind": "adafactor"}, "parallel": {"shard": "auto"}}, "adafactor"),
    "8 bits": ("sft", {"optimizer": {"kind": "adamw_8bit"}, "parallel": {"shard": 2}}, "adamw_8bit"),
    "a critic's": (
        "ppo",
        {"critic": {"optimizer": {"kind": "muon"}}, "parallel": {"shard": 2}, "reward": "number"},
        "muon",
    ),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_is_refused_when_it_is_read(case: str) -> None:
    stage, settings, words = RECIPES[case]
    with pytest.raises(RecipeError, match=words):
        stage_recipe(stage, {"model": "builtin:tiny", "data": "builtin:chat", **settings})


def test_offload_needs_shards() -> None:
    with pytest.raises(RecipeError, match=r"parallel\.cpu_offload, and parallel\.shard is 1"):
        Parallel(cpu_offload=True).mesh(2)
    assert Parallel(cpu_offload=True, shard=2).mesh(2).shard == 2


def llama(**sizes: int) -> LlamaForCausalLM:
    given = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 10, **sizes}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **given))


def adapted(**options: Any) -> nn.Module:
    return get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj", "o_proj"], **options)).get_base_model()


def with_bias() -> nn.Module:
    model = llama()
    model.model.layers[0].self_attn.o_proj.bias = nn.Parameter(model.model.norm.weight.detach().clone())
    return model


PLAN = LlamaConfig().base_model_tp_plan
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, str] | None, int, str]] = {
    "heads": (llama, PLAN, 1, "heads of attention"),
    "no plan": (llama, {}, 2, "has no plan"),
    "a style": (llama, {"layers.*.mlp.up_proj": "packed_colwise"}, 2, "the style packed_colwise"),
    "an odd width": (lambda: llama(intermediate_size=25), PLAN, 2, "25 outputs or inputs"),
    "a bias of rows": (with_bias, PLAN, 2, "has a bias"),
    "DoRA": (lambda: adapted(use_dora=True), PLAN, 2, "DoRA"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_has_no_equal_slices_is_refused(case: str) -> None:
    make, plan, heads, words = MODELS[case]
    with pytest.raises(ModelError, match=words):
        Slices(Group((0, 1)), 0).decoder(decoder_of(make()), plan or {}, heads)  # type: ignore[arg-type]


def test_a_vocabulary_without_equal_slices_stays_whole() -> None:
    model = llama(vocab_size=11)
    assert Slices(Group((0, 1)), 0).head(model.lm_head, model.model.embed_tokens) is None
    assert len(model.lm_head.weight) == 11
