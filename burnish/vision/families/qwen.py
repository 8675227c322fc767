"""Qwen2-VL and Qwen2.5-VL: any resolution, positions in three dimensions (arXiv 2409.12191, 2502.13923)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from burnish.vision.families.family import ImageText, Pixels, joined


class QwenVL:
    """Family of Qwen2-VL and Qwen2.5-VL."""

    name = "qwen-vl"
    model_types: tuple[str, ...] = ("qwen2_5_vl", "qwen2_vl")
    written = "<|vision_start|><|image_pad|><|vision_end|>"
    two_way = False
    tower_parts: tuple[str, ...] = ("visual",)
    projector_parts: tuple[str, ...] = ("visual.merger",)

    def mark(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return str(getattr(tokenizer, "image_token", "<|image_pad|>"))

    def image_token(self, config: PreTrainedConfig) -> int:
        return int(config.image_token_id)

    def resized(self, processor: Any, min_pixels: int | None, max_pixels: int | None) -> Mapping[str, Any]:
        size = {
            "shortest_edge": processor.size["shortest_edge"] if min_pixels is None else min_pixels,
            "longest_edge": processor.size["longest_edge"] if max_pixels is None else max_pixels,
        }
        return {"size": size}

    def text_of(
        self, processed: Mapping[str, Any], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
    ) -> ImageText:
        patches = int(processed["image_grid_thw"].prod())
        count = patches // config.vision_config.spatial_merge_size**2
        return ImageText(self.mark(tokenizer) * count, count, patches)

    def features(self, model: PreTrainedModel, images: Sequence[Pixels]) -> list[Tensor]:
        output = model.base_model.get_image_features(
            joined(images, "pixel_values"), image_grid_thw=joined(images, "image_grid_thw"), return_dict=True
        )
        return list(output.pooler_output)

    def plain_inputs(self, images: Sequence[Pixels], is_image: Tensor) -> dict[str, Tensor]:
        pixels = {name: joined(images, name) for name in ("pixel_values", "image_grid_thw")}
        return {**pixels, "mm_token_type_ids": is_image[None].long()}

    def positions(self, model: PreTrainedModel, is_image: Tensor, images: Sequence[Pixels]) -> Tensor | None:
        kinds = is_image[None].to(torch.int32)
        tokens = torch.zeros_like(kinds, dtype=torch.int64)  # the function reads their number alone
        positions, _ = model.base_model.get_rope_index(
            tokens, mm_token_type_ids=kinds, image_grid_thw=joined(images, "image_grid_thw")
        )
        found: Tensor = positions[:, 0]
        return found
