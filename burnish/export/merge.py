"""Merges an adapter into its base: added in float32, rounded once to the base's own types.

Runs between `open` and `write`. peft adds in the type of the base, which rounds twice; so 16-bit weights are converted
to float32 first. Merging into quantized weights, and merging that would untie embedding and head, is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from burnish.errors import ModelError
from burnish.export.verify import EXACT, Logprobs, largest_difference, logprobs, refuse_mismatch, widened
from burnish.model.load import load_config
from burnish.model.open import LoadedModel, ModelRef


def refuse_quantized(named: ModelRef) -> None:
    """Refuses a quantized base, before it is loaded.

    Raises:
        ModelError: the base's configuration has a quantization.
    """
    config: PretrainedConfig = load_config(named.base or named.place)
    settings = config.to_dict().get("quantization_config")
    if settings:
        method = settings.get("quant_method", "quantized") if isinstance(settings, Mapping) else "quantized"
        raise ModelError(
            given=f"{named.base or named.place} has quantized weights ({method})",
            rule="an adapter is merged into unquantized weights; 4-bit and 8-bit weights would round it away",
            remedy="name the unquantized original of the base with --base",
        )


def merge(opened: LoadedModel, prompts: list[Tensor]) -> tuple[PreTrainedModel, Logprobs]:
    """The merged model in the base's types, and the expected log-probabilities on the prompts.

    Args:
        opened: an adapter with its base; its model is consumed.
        prompts: tokens on which the merged model is verified.

    Returns:
        The merged model, and the prompts' log-probabilities by the unmerged adapter, before anything was rounded.

    Raises:
        ModelError: the kind of adapter cannot be merged, or the embeddings of the base would be untied.
    """
    model = opened.model
    assert isinstance(model, PeftModel), "only an adapter can be merged"
    types = types_of(opened.causal_lm)
    if not isinstance(model.base_model, BaseTuner) or not callable(getattr(model.base_model, "merge_and_unload", None)):
        kind = next(iter(model.peft_config.values())).peft_type.value
        raise ModelError(
            given=f"{opened.named.given} is an adapter of the kind {kind}",
            rule="only adapters that change weights (LoRA and its family) can be merged into them",
            remedy="use it unmerged with its base",
        )
    tied = bool(opened.causal_lm.config.get_text_config(decoder=True).tie_word_embeddings)
    widened(model)
    expected = logprobs(model, prompts)
    with warnings.catch_warnings():
        # The cases of these warnings are refused below.
        warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        merged = model.merge_and_unload()
    largest = largest_difference(logprobs(merged, prompts), expected)
    if tied and (not merged.config.get_text_config(decoder=True).tie_word_embeddings or not largest <= EXACT):
        raise _untied(opened)
    refuse_mismatch(f"{opened.named.given} merged into its base", largest, EXACT)
    narrow(merged, types)
    return merged, expected


def types_of(model: PreTrainedModel) -> dict[str, torch.dtype]:
    """The type in which each weight of the base was stored, by the weight's name without peft's."""
    # `load_model` loads float16 as float32; the configuration has the stored type.
    is_float16 = model.config.dtype == torch.float16
    return {
        _plain(name): torch.float16 if is_float16 and parameter.dtype == torch.float32 else parameter.dtype
        for name, parameter in model.named_parameters()
    }


def _plain(name: str) -> str:
    return name.replace(".base_layer.", ".").replace(".original_module.", ".").replace(".token_adapter.", ".")


def narrow(model: PreTrainedModel, types: Mapping[str, torch.dtype]) -> None:
    """Rounds every weight to its type in the base; buffers do not change."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(types[name])
    model.tie_weights()


def _untied(opened: LoadedModel) -> ModelError:
    return ModelError(
        given=f"the adapter {opened.named.given} changes the embedding or the head of {opened.base}, where both are "
        "one matrix",
        rule="a model with tied embeddings (tie_word_embeddings) has one matrix for both, and every loader ties "
        "them again",
        remedy="use the adapter unmerged with its base, or train again without embed_tokens and lm_head in it",
    )
