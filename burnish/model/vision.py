"""Vision of a model: embeddings of image tokens from the vision tower, rotary positions, and two-way blocks of images.

Called by `policy` for microbatches with images, and by the local sampler for prompts. Every different image of a
forward is computed once, however often its prompt is packed.

Axes in comments: N packed tokens, P tokens of a prompt, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from burnish.layout import Layout, move
from burnish.types import MediaRef, PlacedImage, place_images
from burnish.vision.families.family import Pixels, VisionFamily
from burnish.vision.processing import ImageProcessing


@dataclass(frozen=True, eq=False, slots=True)
class Vision:
    """Vision-language side of a model. It holds no weights: these are the model's.

    Places and positions are computed on the host, where packing leaves them, so that no forward waits for a device.
    """

    processing: ImageProcessing

    @property
    def family(self) -> VisionFamily:
        return self.processing.family

    def embeddings(self, model: PreTrainedModel, tokens: Tensor, media: Sequence[PlacedImage]) -> Tensor:
        """[N, H] embeddings of tokens [N], those of image tokens replaced by features of the vision tower."""
        embedded: Tensor = model.get_input_embeddings()(tokens[None])[0]
        features = self._features(model, [image.medium for image in media])
        for image in media:
            found = len(features[image.medium.digest])
            assert found == len(image.positions), f"{image.medium.source}: {found} features"
        values = torch.cat([features[image.medium.digest] for image in media]).to(embedded.dtype)
        places = torch.cat([image.positions for image in media])
        return embedded.index_copy(0, _on(places, embedded.device), values)

    def positions(self, model: PreTrainedModel, layout: Layout, media: Sequence[PlacedImage]) -> tuple[Tensor, Layout]:
        """Positions [N] or [3, N] for the rotary embedding, and the layout with the blocks of images.

        A sequence whose prompt has images is counted on after them: its tokens are shifted from their indices by what
        images take fewer positions than tokens.
        """
        device, size = layout.positions.device, len(layout.positions)
        if self.family.two_way:
            blocks = torch.full((size,), -1)
            for number, image in enumerate(media):
                blocks[image.positions] = number
            layout = replace(layout, blocks=_on(blocks, device))
        beyond = torch.zeros((3, size), dtype=torch.int64)
        last: dict[int, int] = {}
        """First position of a root segment -> its last."""
        for segment in layout.segments:
            own = slice(segment.start, segment.start + segment.length)
            if segment.context:
                beyond[:, own] = beyond[:, last[segment.context[0][0]], None]
                continue
            last[segment.start] = segment.start + segment.length - 1
            images = [image for image in media if image.start == segment.start]
            found = self._positions_of(model, images, segment.length)
            if found is not None:
                beyond[:, own] = found - torch.arange(segment.length)
        if not bool(beyond.any()):
            return layout.positions, layout
        return layout.positions + _on(beyond, device), layout

    def shift(self, model: PreTrainedModel, prompt: Tensor, media: Sequence[MediaRef]) -> int:
        """Position after a prompt [P], less P: what is added to the index of each token of a response."""
        found = self._positions_of(model, place_images(media, prompt, 0), len(prompt))
        return 0 if found is None else int(found.max()) + 1 - len(prompt)

    def plain_inputs(
        self, model: PreTrainedModel | PeftModel, tokens: Tensor, media: Sequence[MediaRef]
    ) -> dict[str, Tensor]:
        """Arguments of the model's own forward for the images of one sequence, whose tokens [P] begin with its
        prompt."""
        if not media:
            return {}
        is_image = torch.zeros(len(tokens), dtype=torch.bool)
        for image in place_images(media, tokens, 0):
            is_image[image.positions] = True
        found = self.family.plain_inputs([self.processing.pixels_of(medium) for medium in media], is_image)
        return {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for name, value in found.items()
        }

    def prepare(self, media: Iterable[MediaRef]) -> None:
        """Decodes images ahead of time, in their order; see `PixelCache.prepare`."""
        self.processing.pixels.prepare(media)

    def require_media(self, prompt: Tensor, media: Sequence[MediaRef]) -> None:
        """Asserts that every image token of a prompt [P] belongs to one of its images."""
        image = self.family.image_token(self.processing.config)
        own = sum(len(placed.positions) for placed in place_images(media, prompt, 0))
        assert int((prompt == image).sum()) == own, "a prompt comes with its images"

    def _positions_of(self, model: PreTrainedModel, images: Sequence[PlacedImage], length: int) -> Tensor | None:
        """[3, length] positions of a sequence that begins with its prompt; None: every token has its index."""
        if not images:
            return None
        is_image = torch.zeros(length, dtype=torch.bool)
        for image in images:
            is_image[image.positions - image.start] = True
        return self.family.positions(model, is_image, [self.processing.pixels_of(image.medium) for image in images])

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
