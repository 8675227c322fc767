"""Idefics3 and SmolVLM: an image and, where it is large, its parts, each of a fixed number of tokens (arXiv 2408.12637,
2504.05299)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from burnish.errors import ModelError
from burnish.vision.families.family import ImageText, Pixels, counted, joined

_AROUND, _WHOLE = "<fake_token_around_image>", "<global-img>"


class Idefics3:
    """Family of Idefics3 and SmolVLM."""

    name = "idefics3"
    model_types: tuple[str, ...] = ("idefics3", "smolvlm")
    written = "<image>"
    two_way = False
    tower_parts: tuple[str, ...] = ("vision_model",)
    projector_parts: tuple[str, ...] = ("connector",)

    def mark(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return str(getattr(tokenizer, "image_token", "<image>"))

    def image_token(self, config: PreTrainedConfig) -> int:
        return int(config.image_token_id)

    def resized(self, processor: Any, min_pixels: int | None, max_pixels: int | None) -> Mapping[str, Any]:
        """The longest side of an image before it is split is the root of its pixels; smaller ones are enlarged to
        it."""
        if min_pixels is not None or (max_pixels is not None and not processor.do_image_splitting):
            raise ModelError(
                given=f"vision.{'max' if min_pixels is None else 'min'}_pixels, and a model of the family Idefics3",
                rule="it brings every image to one size; where it splits images, max_pixels bounds the parts",
                remedy="remove the setting",
            )
        return {} if max_pixels is None else {"size": {"longest_edge": max(1, int(max_pixels**0.5))}}

    def text_of(
        self, processed: Mapping[str, Any], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
    ) -> ImageText:
        side = config.vision_config.image_size // config.vision_config.patch_size
        length = int(side**2 / config.scale_factor**2)
        tokens = self.mark(tokenizer) * length
        rows, columns = int(processed["rows"][0][0]), int(processed["cols"][0][0])
        whole = f"{_AROUND}{_WHOLE}{tokens}{_AROUND}"
        parts = "".join(
            "".join(f"{_AROUND}<row_{row}_col_{column}>{tokens}" for column in range(1, columns + 1)) + "\n"
            for row in range(1, rows + 1)
        )
        frames = rows * columns + 1
        return ImageText(f"{parts}\n{whole}" if rows else whole, frames * length, frames * side**2)

    def features(self, model: PreTrainedModel, images: Sequence[Pixels]) -> list[Tensor]:
        """Every frame is given as an image of its own, so that images with more or fewer parts go together."""
        frames = [{name: tensor.transpose(0, 1) for name, tensor in image.items()} for image in images]
        found: list[Tensor] = []
        for _, group in groupby(frames, key=lambda image: image["pixel_values"].shape[2:]):
            members = list(group)
            masks = joined(members, "pixel_attention_mask") if "pixel_attention_mask" in members[0] else None
            output = model.base_model.get_image_features(
                joined(members, "pixel_values"), masks, return_dict=True
            ).pooler_output
            rows = list(output)
            for member in members:
                own, rows = rows[: counted(member, "pixel_values")], rows[counted(member, "pixel_values") :]
                found.append(_cat(own))
        return found

    def plain_inputs(self, images: Sequence[Pixels], is_image: Tensor) -> dict[str, Tensor]:
        """The frames of all images in sequence, as those of one."""
        return {name: torch.cat([image[name] for image in images], dim=1) for name in images[0]}

    def positions(self, model: PreTrainedModel, is_image: Tensor, images: Sequence[Pixels]) -> Tensor | None:
        return None


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    return joined([{"": tensor} for tensor in tensors], "")
