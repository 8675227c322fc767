"""Settings of vision-language models in recipes. A recipe has one section; language models do not read it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.vision.settings import Trained, VisionSettings

Pixels = Annotated[int, Field(ge=28 * 28)]


class Vision(Settings):
    """Images of prompts, and the trained parts of a vision-language model (docs/vision.md)."""

    tower: Trained = "frozen"
    """Vision tower: frozen, or trained as the decoder is (all weights, or an adapter)."""
    projector: Trained = "trained"
    """Projector between tower and decoder: frozen, or trained as the decoder is."""
    min_pixels: Pixels | None = None
    """Smaller images are enlarged to this number of pixels; null: as the model's image processor has it."""
    max_pixels: Pixels | None = None
    """Larger images are reduced to this number of pixels, which bounds the tokens of an image; null: as the model's
    image processor has it."""
    folder: str | None = None
    """Folder in which relative paths of images begin; null: the folder of the data file."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Vision:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"vision.min_pixels: {self.min_pixels} is above vision.max_pixels: {self.max_pixels}")
        return self

    @property
    def settings(self) -> VisionSettings:
        """The settings as the model reads them."""
        return VisionSettings(self.folder, self.min_pixels, self.max_pixels, self.tower, self.projector)
