"""Contract of a family of vision-language models: the text of an image, its features, its positions.

A family is what transformers' processors and models of the same kind share. Its image processor is transformers' own
(by Pillow); the text of an image is put together here, since transformers' processors also want a video processor.
Tests compare both with the processors' own code.

Axes in comments: P prompt tokens, H hidden of the decoder, n image tokens of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Pixels = Mapping[str, Tensor]
"""What the image processor makes of one image: pixels and their sizes, in the family's form."""


@dataclass(frozen=True, slots=True)
class ImageText:
    """Text of an image. Example: ``ImageText("<image>" * 4, num_tokens=4, num_patches=16)``."""

    text: str
    """Replaces the mark that the chat template writes."""
    num_tokens: int
    """Image tokens in it, which get features."""
    num_patches: int
    """Patches that the vision tower computes."""


class VisionFamily(Protocol):
    """Family of vision-language models."""

    name: str
    """Example: ``qwen-vl``."""
    model_types: tuple[str, ...]
    """Values of `model_type` in transformers' configurations."""
    two_way: bool
    """Whether the tokens of an image attend to each other in both directions."""
    written: str
    """What chat templates of the family write for an image: the mark, with what stands around it."""
    tower_parts: tuple[str, ...]
    """Names of the parts of the model that compute features of patches."""
    projector_parts: tuple[str, ...]
    """Names of the parts that bring features into the decoder's space."""

    def mark(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """Text of an image in what the chat template writes."""

    def image_token(self, config: PreTrainedConfig) -> int:
        """Id of the token that stands for a feature."""

    def resized(self, processor: Any, min_pixels: int | None, max_pixels: int | None) -> Mapping[str, Any]:
        """Arguments of the image processor for a resolution.

        Raises:
            ModelError: the family's resolution is fixed.
        """

    def text_of(
        self, processed: Mapping[str, Any], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
    ) -> ImageText:
        """Text of one image.

        Args:
            processed: what the image processor made of this image.
        """

    def features(self, model: PreTrainedModel, images: Sequence[Pixels]) -> list[Tensor]:
        """[n, H] features of each image, by one forward of the vision tower."""

    def plain_inputs(self, images: Sequence[Pixels], is_image: Tensor) -> dict[str, Tensor]:
        """Arguments of the model's own forward for one sequence, besides its tokens.

        Args:
            images: at least one, in their order.
            is_image: [P] bool, as in `positions`.
        """

    def positions(self, model: PreTrainedModel, is_image: Tensor, images: Sequence[Pixels]) -> Tensor | None:
        """Positions for the rotary embedding, computed on the host.

        Args:
            model: the model.
            is_image: [P] bool, True for tokens that stand for features.
            images: the images among them, in their order.

        Returns:
            [3, P] int64, or None: every token has its index.
        """


def counted(pixels: Pixels, name: str) -> int:
    """Number of rows of a tensor."""
    return int(pixels[name].shape[0])


def joined(images: Sequence[Pixels], name: str) -> Tensor:
    """One tensor of all images, along their first axis."""
    return torch.cat([image[name] for image in images])
