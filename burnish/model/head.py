"""The output head as numbers: what turns a hidden state into logits.

Stands between the decoder and scoring. Reads the model's head once, so that scoring needs no model code and works for
every architecture whose logits are  soft-cap(scale · (W h + b)).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.errors import ModelError


@dataclass(frozen=True, eq=False, slots=True)
class NewRows:
    """Rows of added tokens, which train while the rest of the head is frozen."""

    tokens: Tensor
    """[R], ids without repetition."""
    values: Tensor
    """[R, H], what stands in the place of the head's rows of these tokens; in the optimiser's type."""


@dataclass(frozen=True, eq=False, slots=True)
class Head:
    """z = soft-cap(scale · (W h + b)), soft-cap(x) = c · tanh(x / c)."""

    weight: Tensor
    """[V, H], in the model's type; may be tied to the embedding."""
    bias: Tensor | None = None
    """[V]; None: no bias."""
    scale: float = 1.0
    """Factor of the logits (Cohere, Granite, MiniCPM call it so or its inverse)."""
    softcap: float | None = None
    """c, in logits (Gemma 2); None: no cap."""
    new_rows: NewRows | None = None
    """Replace rows of a frozen weight; None: the weight is all."""


def read_head(model: PreTrainedModel) -> Head:
    """Reads the head of a causal language model.

    Raises:
        ModelError: the head is not a plain linear layer (for instance because an adapter was put on it).
    """
    layer, new_rows = _apart(model.get_output_embeddings())
    if not isinstance(layer, nn.Linear) or type(layer).__module__.split(".")[0] == "peft":
        raise ModelError(
            given=f"the output head of {type(model).__name__} is a {type(layer).__name__}",
            rule="scoring needs the head as one plain linear layer",
            remedy="leave lm_head out of the adapter's targets, or use a causal language model",
        )
    config = model.config.get_text_config(decoder=True).to_dict()
    softcap = config.get("final_logit_softcapping")
    return Head(
        weight=layer.weight,
        bias=layer.bias,
        scale=float(config.get("logit_scale") or 1.0) / float(config.get("logits_scaling") or 1.0),
        softcap=None if softcap is None else float(softcap),
        new_rows=new_rows,
    )


def _apart(layer: nn.Module) -> tuple[nn.Module, NewRows | None]:
    """The layer, and the rows that peft trains beside it if there are any."""
    if isinstance(layer, ModulesToSaveWrapper):  # it trains whole, beside an adapter elsewhere
        return layer.modules_to_save[layer.active_adapters[0]], None
    if not isinstance(layer, TrainableTokensWrapper):
        return layer, None
    adapter = layer.token_adapter
    [name] = adapter.active_adapters
    values = adapter.trainable_tokens_delta[name]
    return adapter.base_layer, NewRows(torch.tensor(adapter.token_indices[name], device=values.device), values)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Scores are float32, or float64 where the model is."""
    return torch.float64 if dtype == torch.float64 else torch.float32
