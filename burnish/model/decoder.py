"""Decoder of a causal language model: the part from tokens to hidden states, before the head."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """The decoder that transformers gives; if that is the model itself (Llama 4's text model in 5.23), its inner
    model."""
    decoder: nn.Module = model.get_decoder()
    if decoder is not model:
        return decoder
    parts = [part for part in model.children() if isinstance(part, PreTrainedModel)]
    return parts[0] if len(parts) == 1 else model


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers of the decoder, in their order: those that transformers keeps on one device each."""
    names = set(model._no_split_modules or ())
    return [module for module in decoder_of(model).modules() if type(module).__name__ in names]
