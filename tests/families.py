"""Tiny models of every family, built in memory from their configurations: what docs/families.md has its table of."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from burnish.model.route import Route

VOCABULARY = 61

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1}
WINDOWED = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
ALTERNATING = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
EVERY_HEAD = {**SIZES, "num_key_value_heads": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    **EVERY_HEAD,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
}
ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
STATE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA_BESIDE = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 4,
}
GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, **TOKENS}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "partial_rotary_factor": 0.75,
    "short_factor": [1.0, 1.5, 2.0],
    "long_factor": [2.0, 3.0, 4.0],
    "original_max_position_embeddings": 128,
}


def built(architecture: str, **settings: Any) -> Callable[[], PreTrainedModel]:
    """Makes, of "Llama", a LlamaForCausalLM by a LlamaConfig."""
    config = getattr(transformers, f"{architecture}Config")
    name = architecture.removesuffix("Text")
    heads = [f"{name}ForCausalLM", f"{name}LMHeadModel"]
    model = next(getattr(transformers, head) for head in heads if hasattr(transformers, head))
    return lambda: model(config(**settings))


def small_tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer of `VOCABULARY` words."""
    words = {word: number for number, word in enumerate(["<unk>", "<end>", *(f"w{n}" for n in range(2, VOCABULARY))])}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="<end>", pad_token="<unk>")


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": built("Llama", **SIZES),
    "llama-tied": built("Llama", **SIZES, tie_word_embeddings=True, attention_bias=True),
    "llama-3": built("Llama", **SIZES, rope_parameters=LLAMA3_ROPE),
    "llama-4": built(
        "Llama4Text",
        **{**SIZES, **LOCAL_EXPERTS, "num_experts_per_tok": 1},
        head_dim=8,
        intermediate_size_mlp=48,
        attention_chunk_size=6,
        moe_layers=[1],
        no_rope_layers=[1, 0],
        floor_scale=4,
    ),
    "qwen2": built("Qwen2", **SIZES),
    "qwen2-windowed": built("Qwen2", **SIZES, **WINDOWED),
    "qwen2-moe": built("Qwen2Moe", **SIZES, **EXPERTS, shared_expert_intermediate_size=16),
    "qwen3": built("Qwen3", **SIZES, head_dim=16, tie_word_embeddings=True),
    "qwen3-windowed": built("Qwen3", **SIZES, head_dim=16, **WINDOWED),
    "qwen3-moe": built("Qwen3Moe", **SIZES, **EXPERTS, head_dim=8),
    "mistral": built("Mistral", **SIZES, head_dim=8, sliding_window=None),
    "mistral-windowed": built("Mistral", **SIZES, head_dim=8, sliding_window=6),
    "ministral-3": built("Ministral3", **SIZES, head_dim=8),
    "mixtral": built("Mixtral", **SIZES, **LOCAL_EXPERTS),
    "gemma": built("Gemma", **SIZES, head_dim=8),
    "gemma-2": built(
        "Gemma2",
        **SIZES,
        **ALTERNATING,
        head_dim=8,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "gemma-3": built("Gemma3Text", **SIZES, **ALTERNATING, head_dim=8, query_pre_attn_scalar=8),
    "gemma-3n": built(
        "Gemma3nText",
        **SIZES,
        **ALTERNATING,
        head_dim=8,
        num_kv_shared_layers=0,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY,
        laurel_rank=4,
        altup_num_inputs=2,
        activation_sparsity_pattern=[0.0, 0.0],
    ),
    "gemma-4": built(
        "Gemma4Text",
        **SIZES,
        **ALTERNATING,
        head_dim=8,
        global_head_dim=8,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY,
    ),
    "phi-2": built("Phi", **SIZES, **TOKENS),
    "phi-3": built("Phi3", **SIZES, **TOKENS, sliding_window=6),
    "phi-4-mini": built("Phi3", **SIZES, **TOKENS, original_max_position_embeddings=128, rope_parameters=LONG_ROPE),
    "olmo": built("Olmo", **SIZES, **TOKENS),
    "olmo-2": built("Olmo2", **SIZES, **TOKENS),
    "olmo-3": built("Olmo3", **SIZES, **ALTERNATING, **TOKENS),
    "olmoe": built("Olmoe", **SIZES, num_experts=4, num_experts_per_tok=2, **TOKENS),
    "smollm3": built("SmolLM3", **SIZES, **TOKENS, no_rope_layers=[1, 0]),
    "deepseek-v2": built("DeepseekV2", **LATENT, **ROUTED, topk_method="greedy", n_group=1, topk_group=1),
    "deepseek-v3": built("DeepseekV3", **LATENT, **ROUTED, n_group=2, topk_group=1),
    "gpt-oss": built(
        "GptOss",
        **SIZES,
        **LOCAL_EXPERTS,
        **ALTERNATING,
        head_dim=8,
        rope_parameters={"rope_theta": 1e4, "rope_type": "default"},
    ),
    "gpt-2": built("GPT2", **GPT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "gpt-neox": built("GPTNeoX", **{**SIZES, **TOKENS}),
    "gpt-bigcode": built("GPTBigCode", **GPT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    "opt": built(
        "OPT",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        ffn_dim=48,
        num_attention_heads=4,
        max_position_embeddings=256,
        word_embed_proj_dim=32,
        dropout=0.0,
        **TOKENS,
    ),
    "granite": built(
        "Granite",
        **SIZES,
        logits_scaling=3.0,
        attention_multiplier=0.2,
        residual_multiplier=0.5,
        embedding_multiplier=2.0,
    ),
    "granite-moe": built("GraniteMoe", **SIZES, **LOCAL_EXPERTS, logits_scaling=3.0),
    "cohere": built("Cohere", **SIZES, **TOKENS, logit_scale=0.25),
    "cohere-2": built("Cohere2", **SIZES, **ALTERNATING, **TOKENS, logit_scale=0.25),
    "hyperclovax": built("HyperCLOVAX", **SIZES, **TOKENS, logits_scaling=0.5),
    "glm-4": built("Glm4", **SIZES, head_dim=8, **TOKENS),
    "glm-4-moe": built("Glm4Moe", **SIZES, **ROUTED, head_dim=8, n_group=1, topk_group=1),
    "ernie-4.5": built("Ernie4_5", **SIZES, head_dim=8),
    "exaone-4": built("Exaone4", **SIZES, **ALTERNATING, **TOKENS),
    "seed-oss": built("SeedOss", **SIZES, head_dim=8, attention_dropout=0.0, residual_dropout=0.0),
    "hunyuan": built("HunYuanDenseV1", **SIZES, head_dim=8),
    "starcoder-2": built(
        "Starcoder2", **SIZES, **TOKENS, sliding_window=6, residual_dropout=0.0, embedding_dropout=0.0
    ),
    "nanochat": built("NanoChat", **SIZES, **TOKENS),
    "stablelm": built("StableLm", **SIZES, **TOKENS),
    "falcon": built(
        "Falcon", vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **TOKENS
    ),
    "bloom": built("Bloom", vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **TOKENS),
    "gpt-j": built("GPTJ", **GPT, rotary_dim=4),
    "deepseek-v3.2": built(
        "DeepseekV32", **LATENT, **ROUTED, n_group=2, topk_group=1, index_n_heads=2, index_head_dim=8, index_topk=4
    ),
    "mamba": built("Mamba", **STATE, **TOKENS),
    "mamba-2": built("Mamba2", **STATE, **TOKENS, num_heads=8, head_dim=8, n_groups=1, chunk_size=4),
    "falcon-mamba": built("FalconMamba", **STATE, **TOKENS),
    "qwen3-next": built("Qwen3Next", **SIZES, **EXPERTS, **DELTA, head_dim=8, shared_expert_intermediate_size=16),
    "qwen3.5": built("Qwen3_5Text", **SIZES, **DELTA, head_dim=8),
    "lfm2": built("Lfm2", **SIZES, **TOKENS, layer_types=["conv", "full_attention"]),
    "lfm2-moe": built(
        "Lfm2Moe", **SIZES, **EXPERTS, **TOKENS, layer_types=["conv", "full_attention"], num_dense_layers=1
    ),
    "falcon-h1": built("FalconH1", **SIZES, **TOKENS, mamba_d_ssm=64, **MAMBA_BESIDE, lm_head_multiplier=0.5),
    "jamba": built(
        "Jamba",
        **SIZES,
        num_experts=4,
        num_experts_per_tok=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=8,
        **TOKENS,
    ),
    "granite-4": built(
        "GraniteMoeHybrid",
        **SIZES,
        **LOCAL_EXPERTS,
        **MAMBA_BESIDE,
        layer_types=["mamba", "attention"],
        shared_intermediate_size=16,
        logits_scaling=3.0,
    ),
    "nemotron-h": built(
        "NemotronH",
        **SIZES,
        **TOKENS,
        head_dim=8,
        mamba_num_heads=8,
        mamba_head_dim=8,
        ssm_state_size=8,
        n_groups=1,
        chunk_size=4,
        layers_block_type=["mamba", "attention"],
    ),
    "recurrent-gemma": built(
        "RecurrentGemma", **SIZES, lru_width=32, attention_window_size=6, block_types=["recurrent", "attention"]
    ),
}
"""Name → makes the model in float32, in training mode, without dropout."""

ALONE = frozenset(list(FAMILIES)[list(FAMILIES).index("stablelm") :])
"""Families that compute every sequence in a forward of its own; all others share prompts."""

REFUSED: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": built(
        "Bert",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    "phi-3.5-moe": built("Phimoe", **SIZES, **TOKENS, **LOCAL_EXPERTS),
    "gemma-3, two-way": built("Gemma3Text", **SIZES, head_dim=8, use_bidirectional_attention=True),
}
"""Models that no route computes exactly."""


class Float64Torch:
    """torch, with a float32 that is float64: transformers' norms round to float32 also in float64 models."""

    float32 = torch.float64
    float = torch.float64

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


def without_rounding(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """Removes every rounding to float32 inside the code of a float64 model, as long as the patch."""
    for name in {type(part).__module__ for part in model.modules()}:
        module = importlib.import_module(name)
        if name.startswith("transformers.models.") and "torch" in vars(module):
            patch.setattr(module, "torch", Float64Torch())
    patch.setattr(torch.Tensor, "float", torch.Tensor.double)


def in_float64(family: str, patch: pytest.MonkeyPatch) -> PreTrainedModel:
    """Builds a family in float64, with every rounding to float32 inside its model code removed as long as the patch."""
    torch.manual_seed(0)
    model = FAMILIES[family]()
    without_rounding(model, patch)
    for parameter in model.parameters():  # the initial weights are small: make every part of the model matter
        parameter.data.normal_(0.0, 0.3)
    return model.double().train()


ROUTES = {Route.SHARED: (Route.SHARED, Route.EXPANDED), Route.UNPACKED: (Route.UNPACKED,)}
"""What the probe finds → the routes that have to be exact."""


def route_of(family: str) -> Route:
    """What the probe has to find."""
    return Route.UNPACKED if family in ALONE else Route.SHARED
