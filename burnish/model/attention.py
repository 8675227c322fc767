"""Attention over packed groups: keys and values of a prompt are computed once for all its responses.

Runs inside the model's forward. The layout is the forward argument ``layout``, which transformers passes through its
decoder layers to the attention function (so activation checkpointing recomputes with the same layout). Two kernels
compute the same: `segments`, calls of scaled-dot-product attention; and on CUDA `flex`, one FlexAttention call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.llama4.modeling_llama4 import Llama4TextAttention

from burnish.layout import Layout
from burnish.model.attention_options import AttentionOptions
from burnish.model.decoding import Decoding, Prefill, attend_decoding
from burnish.model.experts import install_experts
from burnish.model.flex import attend_flex, supports_flex
from burnish.model.linear import use_onednn
from burnish.model.llama4 import at_positions, chunk_of
from burnish.model.segments import attend_segments

NAME = "burnish_segments_over_"
"""Prefix, before the name of the model's own attention, of the name under which packed attention is registered."""
HARMLESS = frozenset(
    {"position_ids", "use_cache", "past_key_values", "cache_position", "output_attentions", "is_causal"}
)
"""Arguments that transformers passes to every attention function and that the layout makes unnecessary."""


class LayoutLostError(RuntimeError):
    """The layout did not arrive: the architecture drops forward arguments, or a plain forward met packed attention.

    Inside `plain_attention` the model takes ordinary forwards. An architecture that drops the layout takes the route of
    unpacked sequences.
    """


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    layout: Layout | Prefill | Decoding | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Packed attention, called by transformers in every attention layer.

    Args:
        module: the attention layer; its number identifies its keys during generation.
        query: [1, heads, N, D].
        key: [1, key heads, N, D].
        value: [1, key heads, N, E].
        attention_mask: always None, since no mask function is registered for packed attention.
        scaling: factor of the scores; None: 1 / sqrt(D).
        dropout: always 0, since with dropout the result depends on the split of the batch.
        sliding_window: how many positions a token looks back, itself included; None: all.
        softcap: the largest size of a score; None: not capped.
        s_aux: [heads], attention sinks; None: no sinks.
        layout: visibility of packed tokens; a `Prefill` keeps keys and values, a `Decoding` has one token per response.
        others: further arguments of the architecture; refused unless known to change nothing.

    Returns:
        [1, N, heads, E], and no attention weights.

    Raises:
        LayoutLostError: the architecture cannot be computed packed; the probe at load then takes another route.
    """
    if layout is None or attention_mask is not None:
        raise LayoutLostError("the model passes a mask, or no layout, to packed attention")
    if unsupported := [name for name, value in others.items() if value is not None and name not in HARMLESS]:
        raise LayoutLostError(
            f"the model's attention has {', '.join(unsupported)}, which packed attention does not compute"
        )
    assert dropout == 0.0, "attention dropout is 0 in packed forwards"
    chunk = None
    if isinstance(module, Llama4TextAttention):
        query, chunk = at_positions(module, query, layout.positions), chunk_of(module)
    options = AttentionOptions(scaling, sliding_window, chunk, softcap, s_aux)
    if isinstance(layout, Decoding):
        output = attend_decoding(_number(module), query, key, value, layout, options)
        return output.transpose(1, 2).contiguous(), None
    if isinstance(layout, Prefill):
        layout.keys_values[_number(module)] = (key[0], value[0])
        layout = layout.layout
    attend = attend_flex if supports_flex(query, value) else attend_segments
    return attend(query, key, value, layout, options).transpose(1, 2).contiguous(), None


def _number(layer: torch.nn.Module) -> int:
    number = layer.layer_idx
    assert isinstance(number, int), "transformers numbers its attention layers for its caches"
    return number


def install(model: PreTrainedModel) -> None:
    """Installs packed attention in the text model (not its vision tower), experts in every type, and oneDNN layers.

    `plain_attention` and `uninstall` undo the attention.
    """
    config = model.config.get_text_config(decoder=True)
    own = config._attn_implementation
    assert not own.startswith(NAME), "packed attention is installed once"
    AttentionInterface.register(NAME + own, segment_attention)
    config._attn_implementation = NAME + own
    install_experts(model)
    use_onednn(model)


def uninstall(model: PreTrainedModel) -> None:
    """Restores the attention from before `install`, for a model that cannot be computed packed."""
    config = model.config.get_text_config(decoder=True)
    config._attn_implementation = config._attn_implementation.removeprefix(NAME)


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Context manager with the attention from before `install`: for padded batches, caches and `generate`."""
    config = model.config.get_text_config(decoder=True)
    installed = config._attn_implementation
    config._attn_implementation = installed.removeprefix(NAME)
    try:
        yield
    finally:
        config._attn_implementation = installed
