"""Reward models of vision-language models: classes that transformers lacks, in its own form.

Each is the vision-language model with a value head in place of the output head, made of transformers' generic classes.
They are registered with AutoModelForSequenceClassification and AutoModelForTokenClassification in this process only:
plain transformers has no class by which it could load such a folder (docs/vision.md).
"""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification, GenericForTokenClassification
from transformers.models.gemma3.configuration_gemma3 import Gemma3Config
from transformers.models.gemma3.modeling_gemma3 import Gemma3PreTrainedModel
from transformers.models.idefics3.configuration_idefics3 import Idefics3Config
from transformers.models.idefics3.modeling_idefics3 import Idefics3PreTrainedModel
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPreTrainedModel
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLPreTrainedModel
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMConfig
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMPreTrainedModel

_BASES: tuple[tuple[Any, type[PreTrainedModel]], ...] = (
    (Gemma3Config, Gemma3PreTrainedModel),
    (Idefics3Config, Idefics3PreTrainedModel),
    (Qwen2_5_VLConfig, Qwen2_5_VLPreTrainedModel),
    (Qwen2VLConfig, Qwen2VLPreTrainedModel),
    (SmolVLMConfig, SmolVLMPreTrainedModel),
)
_KINDS = (
    (AutoModelForSequenceClassification, GenericForSequenceClassification, "ForSequenceClassification"),
    (AutoModelForTokenClassification, GenericForTokenClassification, "ForTokenClassification"),
)


def register_vision_reward_models() -> None:
    """Registers the classes that transformers does not have itself. Once per process."""
    for config, base in _BASES:
        for auto, generic, ending in _KINDS:
            if config in auto._model_mapping:
                continue
            name = base.__name__.removesuffix("PreTrainedModel") + ending
            made = type(name, (generic, base), {"config_class": config, "__module__": __name__})
            auto.register(config, made, exist_ok=True)
