"""Attention over packed groups: every prompt's keys and values are computed once and seen by all its responses.

Stands inside the model's forward. The layout arrives as the forward argument ``layout``, which transformers hands
through its decoder layers to the attention function (so activation checkpointing recomputes with the same layout). One
meaning, two kernels: `segments`, calls of scaled-dot-product attention; and on CUDA `flex`, one FlexAttention call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.llama4.modeling_llama4 import Llama4TextAttention

from burnish.model.attention_options import AttentionOptions
from burnish.model.decoding import Decoding, Prefill, attend_decoding
from burnish.model.experts import install_experts
from burnish.model.flex import attend_flex, computes
from burnish.model.linear import use_onednn
from burnish.model.llama4 import at_positions, chunk_of
from burnish.model.segments import attend_segments
from burnish.types import Layout

NAME = "burnish_segments_over_"
"""With the name of the model's own attention behind it: the name under which ours is registered with transformers."""
HARMLESS = frozenset(
    {"position_ids", "use_cache", "past_key_values", "cache_position", "output_attentions", "is_causal"}
)
"""What transformers offers to every attention function and ours need not know: the layout says it better."""


class LayoutLostError(RuntimeError):
    """The layout did not arrive: the architecture drops forward arguments, or a plain forward met packed attention.

    Inside `plain_attention` the model takes ordinary forwards. An architecture that drops it runs sequences alone.
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
    """The function that transformers calls in every attention layer.

    Args:
        module: the attention layer, whose number tells whose keys are kept while responses are written.
        query: [1, heads, N, D].
        key: [1, key heads, N, D].
        value: [1, key heads, N, E].
        attention_mask: always None: no mask function is registered under our name.
        scaling: factor of the scores; None: 1 / sqrt(D).
        dropout: always 0 here: with dropout no split of the batch gives the same result.
        sliding_window: how many positions a token looks back, itself included; None: all.
        softcap: the largest size of a score; None: not capped.
        s_aux: [heads], attention sinks; None: no sinks.
        layout: who sees whom; in a prefill, its keys are kept; in decoding, every row is another response.
        others: what else the architecture's attention has; refused unless it is known to change nothing.

    Returns:
        [1, N, heads, E], and no attention weights.

    Raises:
        LayoutLostError: the architecture cannot be computed packed; the probe at load finds another route.
    """
    if layout is None or attention_mask is not None:
        raise LayoutLostError("the model hands on a mask, or no layout, to packed attention")
    if unknown := [name for name, value in others.items() if value is not None and name not in HARMLESS]:
        raise LayoutLostError(
            f"the model's attention has {', '.join(unknown)}, which packed attention does not compute"
        )
    assert dropout == 0.0, "attention dropout is 0 in packed forwards"
    chunk = None
    if isinstance(module, Llama4TextAttention):
        query, chunk = at_positions(module, query, layout.positions), chunk_of(module)
    extras = AttentionOptions(scaling, sliding_window, chunk, softcap, s_aux)
    if isinstance(layout, Decoding):
        output = attend_decoding(_number(module), query, key, value, layout, extras)
        return output.transpose(1, 2).contiguous(), None
    if isinstance(layout, Prefill):
        layout.kept[_number(module)] = (key[0], value[0])
        layout = layout.layout
    attend = attend_flex if computes(query, value) else attend_segments
    return attend(query, key, value, layout, extras).transpose(1, 2).contiguous(), None


def _number(layer: torch.nn.Module) -> int:
    number = layer.layer_idx
    assert isinstance(number, int), "transformers numbers its attention layers for the sake of caches"
    return number


def install(model: PreTrainedModel) -> None:
    """Makes the text model (not its vision tower) attend by layouts, undone for a while by `plain_attention`; and its
    experts computed in every type, its linear layers in less time."""
    config = model.config.get_text_config(decoder=True)
    own = config._attn_implementation
    assert not own.startswith(NAME), "packed attention is installed once"
    AttentionInterface.register(NAME + own, segment_attention)
    config._attn_implementation = NAME + own
    install_experts(model)
    use_onednn(model)


def uninstall(model: PreTrainedModel) -> None:
    """For a model that cannot be computed packed: it attends as it did before `install`."""
    config = model.config.get_text_config(decoder=True)
    config._attn_implementation = config._attn_implementation.removeprefix(NAME)


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model attends as it did before `install`: padded batches, caches, `generate`."""
    config = model.config.get_text_config(decoder=True)
    installed = config._attn_implementation
    config._attn_implementation = installed.removeprefix(NAME)
    try:
        yield
    finally:
        config._attn_implementation = installed
