"""Class of transformers that loads a model, by its configuration."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from burnish.model.value_head import holds_reward_model, reward_model_class
from burnish.vision.registry import family_of


def model_class_of(config: PretrainedConfig) -> Any:
    """The class of transformers that loads a model, by its `from_pretrained`."""
    if holds_reward_model(config):
        return reward_model_class(config)
    return AutoModelForCausalLM if family_of(config) is None else AutoModelForImageTextToText
