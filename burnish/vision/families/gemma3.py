"""Gemma 3: 256 tokens for every image, which see each other in both directions (arXiv 2503.19786)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from burnish.errors import ModelError
from burnish.vision.families.family import ImageText, Pixels, joined


class Gemma3:
    """Family of Gemma 3 from 4B on. Pan and scan (crops of wide images) is off, as in transformers' default."""

    name = "gemma3"
    model_types: tuple[str, ...] = ("gemma3",)
    written = "<start_of_image>"
    two_way = True
    tower_parts: tuple[str, ...] = ("vision_tower",)
    projector_parts: tuple[str, ...] = ("multi_modal_projector",)

    def mark(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return str(getattr(tokenizer, "boi_token", "<start_of_image>"))

    def image_token(self, config: PreTrainedConfig) -> int:
        return int(config.image_token_id)

    def resized(self, processor: Any, min_pixels: int | None, max_pixels: int | None) -> Mapping[str, Any]:
        if min_pixels is None and max_pixels is None:
            return {}
        raise ModelError(
            given="vision.min_pixels or vision.max_pixels, and a model of the family Gemma 3",
            rule="it sees every image in one size",
            remedy="remove the setting",
        )

    def text_of(
        self, processed: Mapping[str, Any], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
    ) -> ImageText:
        count, side = int(config.mm_tokens_per_image), config.vision_config
        image = str(getattr(tokenizer, "image_token", "<image_soft_token>")) * count
        end = str(getattr(tokenizer, "eoi_token", "<end_of_image>"))
        patches = (side.image_size // side.patch_size) ** 2
        return ImageText(f"\n\n{self.mark(tokenizer)}{image}{end}\n\n", count, patches)

    def features(self, model: PreTrainedModel, images: Sequence[Pixels]) -> list[Tensor]:
        pixels = joined(images, "pixel_values").to(model.dtype)
        return list(model.base_model.get_image_features(pixels, return_dict=True).pooler_output)

    def plain_inputs(self, images: Sequence[Pixels], is_image: Tensor) -> dict[str, Tensor]:
        return {"pixel_values": joined(images, "pixel_values"), "token_type_ids": is_image[None].long()}

    def positions(self, model: PreTrainedModel, is_image: Tensor, images: Sequence[Pixels]) -> Tensor | None:
        return None
