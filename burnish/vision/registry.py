"""Registry of the families of vision-language models."""

from __future__ import annotations

from transformers import PreTrainedConfig

from burnish.vision.families.family import VisionFamily
from burnish.vision.families.gemma3 import Gemma3
from burnish.vision.families.idefics3 import Idefics3
from burnish.vision.families.qwen import QwenVL

FAMILIES: tuple[VisionFamily, ...] = (QwenVL(), Gemma3(), Idefics3())


def family_of(config: PreTrainedConfig) -> VisionFamily | None:
    """The family of a model; None: it is a language model, or a vision-language model of no known family."""
    return next((family for family in FAMILIES if config.model_type in family.model_types), None)
