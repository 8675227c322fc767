"""The decoder inside a causal language model: what makes hidden states of tokens. The head is what comes after it."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """transformers' own answer; where that is the model itself (Llama 4's text model in 5.23), the model in it."""
    found: nn.Module = model.get_decoder()
    if found is not model:
        return found
    parts = [part for part in model.children() if isinstance(part, PreTrainedModel)]
    return parts[0] if len(parts) == 1 else model
