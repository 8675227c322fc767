"""Vision of a model: embeddings of image tokens from the vision tower, rotary positions, and two-way blocks of images.

Called by `policy` for microbatches with images, and by the local sampler for prompts. Every different image of a
forward is computed once, however often its prompt is packed.

Axes in comments: N packed tokens, P tokens of a prompt, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.layout import Layout, move
from burnish.types import MediaRef
from burnish.vision.families.family import Pixels, VisionFamily
from burnish.vision.processing import ImageProcessing

PlacedMedia = Sequence[tuple[MediaRef, int]]
"""Images in their packed order, each with the packed position of its prompt's first token."""


@dataclass(frozen=True, eq=False, slots=True)
class Vision:
    """Vision-language side of a model. It holds no weights: these are the model's."""

    processing: ImageProcessing

    @property
    def family(self) -> VisionFamily:
        return self.processing.family

    def embeddings(self, model: PreTrainedModel, tokens: Tensor, media: PlacedMedia) -> Tensor:
        """[N, H] embeddings of tokens [N], those of image tokens replaced by features of the vision tower."""
        embedded: Tensor = model.get_input_embeddings()(tokens[None])[0]
        places = [self._places(tokens, medium, start) for medium, start in media]
        features = self._features(model, [medium for medium, _ in media])
        for (medium, _), at in zip(media, places, strict=True):
            found = len(features[medium.digest])
            assert found == len(at), f"{medium.source}: {len(at)} image tokens, {found} features"
        values = torch.cat([features[medium.digest] for medium, _ in media]).to(embedded.dtype)
        return embedded.index_copy(0, torch.cat(places), values)

    def positions(
        self, model: PreTrainedModel, tokens: Tensor, layout: Layout, media: PlacedMedia
    ) -> tuple[Tensor, Layout]:
        """Positions [N] or [3, N] for the rotary embedding, and the layout with the blocks of images.

        A sequence whose prompt has images is counted on after them: its tokens are shifted from their indices by what
        images take fewer positions than tokens.
        """
        if self.family.two_way:
            blocks = torch.full_like(layout.positions, -1)
            for number, (medium, start) in enumerate(media):
                blocks[self._places(tokens, medium, start)] = number
            layout = replace(layout, blocks=blocks)
        rotary: Tensor | None = None
        shifts: dict[int, int] = {}
        for segment in layout.segments:
            own = slice(segment.start, segment.start + segment.length)
            if segment.context:
                if rotary is not None:
                    rotary[:, own] += shifts[segment.context[0][0]]
                continue
            images = [medium for medium, start in media if start == segment.start]
            found = self._prompt_positions(model, tokens[own], images) if images else None
            shifts[segment.start] = 0 if found is None else int(found[0, -1]) + 1 - segment.length
            if found is not None:
                rotary = layout.positions.expand(3, -1).clone() if rotary is None else rotary
                rotary[:, own] = found
        return (layout.positions if rotary is None else rotary), layout

    def require_media(self, prompt: Tensor, media: Sequence[MediaRef]) -> None:
        """Asserts that every image token of a prompt [P] belongs to one of its images."""
        image = self.family.image_token(self.processing.config)
        own = sum(len(self._places(prompt, medium, 0)) for medium in media)
        assert int((prompt == image).sum()) == own, "a prompt comes with its images"

    def shift(self, model: PreTrainedModel, prompt: Tensor, media: Sequence[MediaRef]) -> int:
        """Position after a prompt [P], less P: what is added to the index of each token of a response."""
        found = self._prompt_positions(model, prompt, media) if media else None
        return 0 if found is None else int(found.max()) + 1 - len(prompt)

    def _prompt_positions(self, model: PreTrainedModel, tokens: Tensor, media: Sequence[MediaRef]) -> Tensor | None:
        """[3, P] positions of a sequence that begins with its prompt; None: every token has its index."""
        is_image = torch.zeros_like(tokens, dtype=torch.bool)
        for medium in media:
            is_image[self._places(tokens, medium, 0)] = True
        return self.family.positions(model, tokens, is_image, [self.processing.pixels_of(medium) for medium in media])

    def _places(self, tokens: Tensor, medium: MediaRef, start: int) -> Tensor:
        """Packed positions of the tokens that stand for an image. Other tokens of its span are text between them."""
        first, end = medium.span
        image = self.family.image_token(self.processing.config)
        return (tokens[start + first : start + end] == image).nonzero()[:, 0] + start + first

    def _features(self, model: PreTrainedModel, media: Sequence[MediaRef]) -> dict[str, Tensor]:
        """Digest of an image -> its features; one forward of the tower for all different images."""
        unique = {medium.digest: medium for medium in media}
        device = model.device
        images: list[Pixels] = [
            {name: _on(value, device) for name, value in self.processing.pixels_of(medium).items()}
            for medium in unique.values()
        ]
        return dict(zip(unique, self.family.features(model, images), strict=True))


def _on(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor if tensor.device == device else move(tensor, device)
