"""Settings of vision-language models: images, and which parts are trained. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_FILE_PIXELS = 100_000_000
"""Most pixels of an image file. A larger one is refused before it is decoded (a decompression bomb)."""
Trained = Literal["frozen", "trained"]


@dataclass(frozen=True, slots=True)
class VisionSettings:
    """Settings of a vision-language model. Example: ``VisionSettings(max_pixels=401_408)``."""

    folder: str | None = None
    """Folder of relative paths of images; None: the folder of the data file."""
    min_pixels: int | None = None
    """Smaller images are enlarged to so many pixels; None: as the model's image processor has it."""
    max_pixels: int | None = None
    """Larger images are reduced to so many pixels, which bounds the tokens of an image; None: as the model's image
    processor has it."""
    tower: Trained = "frozen"
    """Whether the vision tower is trained as the decoder is: all weights, or an adapter."""
    projector: Trained = "trained"
    """Whether the projector is, which brings the tower's features into the decoder's space."""
