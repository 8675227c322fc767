"""Positions for Llama 4's attention, where transformers uses indices in the packed row instead.

Called by `attention` for Llama 4 layers. transformers 5.23 applies chunks by the mask alone, and uses indices for the
temperature of layers without rotary positions (arXiv 2501.19399).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.llama4.modeling_llama4 import Llama4TextAttention


def chunk_of(layer: Llama4TextAttention) -> int | None:
    """Positions in a chunk of this layer; None: no chunks."""
    chunked = layer.config.layer_types[layer.layer_idx] == "chunked_attention"
    return int(layer.config.attention_chunk_size) if chunked else None


def at_positions(layer: Llama4TextAttention, query: Tensor, positions: Tensor) -> Tensor:
    """Queries [1, heads, N, D] with the temperature of their positions [N] in place of that of their indices."""
    if not layer.attn_temperature_tuning or layer.use_rope:
        return query
    indices = torch.arange(len(positions), device=query.device)
    factor = _temperature(layer, positions) / _temperature(layer, indices)
    return query * factor[:, None].to(query.dtype)


def _temperature(layer: Llama4TextAttention, positions: Tensor) -> Tensor:
    """Temperature [N], float64, as in `Llama4TextAttention.forward`."""
    steps = torch.floor((positions.double() + 1.0) / layer.floor_scale)
    return torch.log1p(steps) * layer.attn_scale + 1.0
