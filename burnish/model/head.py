"""Output head of a language model: its weight, bias, scale and soft-cap.

Sits between the decoder and scoring. The head is read once, so scoring needs no model code and works for every
architecture whose logits are  soft-cap(scale · (W h + b)).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from peft.utils import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from burnish.errors import ModelError
from burnish.parallel.columns import Columns

FACTORS = ("logit_scale", "lm_head_multiplier")
"""Settings by which logits are multiplied: Cohere, Falcon-H1."""
DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")
"""Settings by which logits are divided: Granite and MiniCPM, Inkling."""
MULTIPLYING = frozenset({"hyperclovax"})
"""Model types that multiply by a setting of `DIVISORS`."""
CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Settings of the soft-cap: Gemma, RecurrentGemma."""


@dataclass(frozen=True, eq=False, slots=True)
class NewRows:
    """Trained rows of added tokens in an otherwise frozen head."""

    tokens: Tensor
    """[R], ids without repetition."""
    values: Tensor
    """[R, H], the values that replace the head's rows of these tokens; in the optimizer's type."""


@dataclass(frozen=True, eq=False, slots=True)
class Head:
    """Output head: z = soft-cap(scale · (W h + b)) with soft-cap(x) = c · tanh(x / c)."""

    weight: Tensor
    """[V, H], in the model's type; may be tied to the embedding."""
    bias: Tensor | None = None
    """[V]; None: no bias."""
    scale: float = 1.0
    """Factor of the logits."""
    softcap: float | None = None
    """c, in logits (Gemma 2); None: no cap."""
    new_rows: NewRows | None = None
    """Replace rows of a frozen weight; None: no row is replaced."""
    columns: Columns | None = None
    """The tokens of the weight's rows, if several processes divide the vocabulary; None: all are here."""

    @property
    def vocabulary(self) -> int:
        """V"""
        return len(self.weight) if self.columns is None else self.columns.vocabulary


def read_head(model: PreTrainedModel) -> Head:
    """Reads the head of a causal language model.

    Raises:
        ModelError: the head is not a plain linear layer (for instance because it has an adapter).
    """
    layer, new_rows = unwrap_peft(model.get_output_embeddings())
    if not isinstance(layer, nn.Linear) or type(layer).__module__.split(".")[0] == "peft":
        raise ModelError(
            given=f"the output head of {type(model).__name__} is a {type(layer).__name__}",
            rule="scoring needs the head as one plain linear layer",
            remedy="leave lm_head out of the adapter's targets, or use a causal language model",
        )
    config = model.config.get_text_config(decoder=True)
    return Head(weight=layer.weight, bias=layer.bias, scale=_scale(config), softcap=_softcap(config), new_rows=new_rows)


def _scale(config: PretrainedConfig) -> float:
    """Factor of the logits; its setting has another name in each family."""
    settings = config.to_dict()
    multiplies = config.model_type in MULTIPLYING
    scale = 1.0
    for name in FACTORS:
        scale *= float(settings.get(name) or 1.0)
    for name in DIVISORS:
        divisor = float(settings.get(name) or 1.0)
        scale *= divisor if multiplies else 1.0 / divisor
    return scale


def _softcap(config: PretrainedConfig) -> float | None:
    settings = config.to_dict()
    caps = [settings[name] for name in CAPS if settings.get(name) is not None]
    return float(caps[0]) if caps else None


def unwrap_peft(layer: nn.Module) -> tuple[nn.Module, NewRows | None]:
    """The layer, or its trained copy inside peft's wrapper; and the rows that peft trains separately, if any."""
    if not isinstance(layer, ModulesToSaveWrapper | TrainableTokensWrapper):
        return layer, None
    if not layer.active_adapters:  # those that are active do not train this layer
        return unwrap_peft(layer.original_module)
    if isinstance(layer, ModulesToSaveWrapper):  # one of modules_to_save
        return layer.modules_to_save[layer.active_adapters[0]], None
    adapter = layer.token_adapter
    [name] = adapter.active_adapters
    values = adapter.trainable_tokens_delta[name]
    return adapter.base_layer, NewRows(torch.tensor(adapter.token_indices[name], device=values.device), values)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of scores and sums: float64 for a float64 model, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
