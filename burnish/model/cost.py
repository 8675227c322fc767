"""Cost of a token and of a pair of tokens in a model, in FLOPs, for balanced packing and for utilization (MFU).

Only the experts that a token visits count, and attention only in layers that have it; windows and recurrent states (a
few products per token) are ignored. Embeddings are looked up: no product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from burnish.microbatch import CostModel
from burnish.model.decoder import decoder_of
from burnish.model.head import Head
from burnish.model.quantization import num_weights
from burnish.model.value_head import ValueHead
from burnish.vision.registry import family_of

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_OF_A_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts", "moe_top_k", "moe_k")
"""Names of these settings in transformers' configurations."""


def forward_cost(model: PreTrainedModel, head: Head | ValueHead, unused: Collection[int] = frozenset()) -> CostModel:
    """FLOPs of the forward: 2 per weight and token.

    Args:
        model: the model.
        head: its head.
        unused: ids of parameters that the forward does not use, such as those of another adapter.
    """
    weights = sum(share * num_weights(p) for p, share in _used(model, unused))
    return CostModel(
        per_token=2.0 * (weights - model.get_input_embeddings().weight.numel()),
        per_pair=_per_pair(model.config.get_text_config(decoder=True)),
        per_scored=2.0 * head.weight.numel(),
        per_patch=sum(2.0 * num_weights(p) for p in _of_images(model)),
    )


def training_cost(model: PreTrainedModel, head: Head | ValueHead, unused: Collection[int] = frozenset()) -> CostModel:
    """FLOPs of forward and backward; arguments as of `forward_cost`.

    A matrix costs a token 2 FLOPs per weight forwards, 2 for the gradient of its input, and 2 for its own gradient
    if it is trained: 6 with full training, 4 where weights are frozen. Attention has no weights: its backward is twice
    its forward. As in arXiv 2204.02311, appendix B, recomputation by checkpointing does not count; unlike there,
    attention is counted as causal, and the head for scored tokens only.
    """
    embedding = model.get_input_embeddings().weight
    lookup = (6.0 if embedding.requires_grad else 4.0) * embedding.numel()
    forward, used = forward_cost(model, head, unused), _used(model, unused)
    return CostModel(
        per_token=sum((6.0 if p.requires_grad else 4.0) * share * num_weights(p) for p, share in used) - lookup,
        per_pair=3.0 * forward.per_pair,
        per_scored=(3.0 if head.weight.requires_grad else 2.0) * forward.per_scored,
        per_patch=sum((6.0 if p.requires_grad else 2.0) * num_weights(p) for p in _of_images(model)),
    )


def _of_images(model: PreTrainedModel) -> list[nn.Parameter]:
    """Parameters of vision tower and projector; none in a language model. A frozen tower has no backward."""
    family = family_of(model.config)
    if family is None:
        return []
    parts = (*family.tower_parts, *family.projector_parts)
    inner = model.base_model
    found = (p for name in parts for p in inner.get_submodule(name).parameters())
    return list({id(p): p for p in found}.values())


def _used(model: PreTrainedModel, unused: Collection[int]) -> Iterator[tuple[nn.Parameter, float]]:
    """Every parameter of the decoder, with the share that a token uses: less than 1 for experts."""
    decoder = decoder_of(model)
    experts = tuple(_prefix(name) for name, part in decoder.named_modules() if type(part).__name__.endswith("Experts"))
    share = _expert_share(model.config.get_text_config(decoder=True)) if experts else 1.0
    for name, parameter in decoder.named_parameters():
        if id(parameter) not in unused:
            yield parameter, share if name.startswith(experts) else 1.0


def _prefix(name: str) -> str:
    """Common prefix of the names of an expert layer's parameters, including an adapter's."""
    return name.split(".base_layer", maxsplit=1)[0] + "."


def _expert_share(config: PretrainedConfig) -> float:
    """Experts that a token visits / experts; 1 if the configuration does not have the numbers."""
    total, visited = _setting(config, *EXPERTS), _setting(config, *EXPERTS_OF_A_TOKEN)
    return visited / total if total and visited else 1.0


def _per_pair(config: PretrainedConfig) -> float:
    """FLOPs of a pair: products of query and key and of weight and value, in every head of every attention layer."""
    heads = _setting(config, "num_attention_heads")
    if not heads:  # no layer attends
        return 0.0
    size = _setting(config, "head_dim") or config.hidden_size // heads
    query_parts = _setting(config, "qk_nope_head_dim"), _setting(config, "qk_rope_head_dim")  # latent attention
    query_size = sum(query_parts) or size
    value_size = _setting(config, "v_head_dim") or size
    return 2.0 * _attention_layers(config) * heads * (query_size + value_size)


def _attention_layers(config: PretrainedConfig) -> int:
    settings = config.to_dict()
    kinds = settings.get("layer_types") or settings.get("layers_block_type")
    if kinds is None:
        return int(config.num_hidden_layers)
    return sum(("attention" in kind and "linear" not in kind) or kind == "hybrid" for kind in kinds)


def _setting(config: PretrainedConfig, *names: str) -> int:
    """The first of these integer settings that the configuration has, by its own name for it; 0: none."""
    settings = config.to_dict()
    values = (settings.get(config.attribute_map.get(name, name)) for name in names)
    return next((value for value in values if isinstance(value, int)), 0)
