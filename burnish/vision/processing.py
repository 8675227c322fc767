"""Image processing of a model: the text that stands for an image in a prompt, and its pixels.

Made once per model (`ImageProcessing.load`), used in worker processes that tokenize and where a microbatch is computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from burnish.errors import ModelError
from burnish.types import MediaRef
from burnish.vision.errors import image_error
from burnish.vision.families.family import ImageText, Pixels, VisionFamily
from burnish.vision.pictures import read_file, read_picture
from burnish.vision.pixel_cache import PixelCache
from burnish.vision.registry import family_of
from burnish.vision.settings import VisionSettings
from burnish.vision.sources import ImageFile, image_file

_BESIDE = ("processor_config.json", "video_preprocessor_config.json")
"""Files of transformers' processors beside that of the image processor."""
_NOT_PIXELS = ("num_crops", "rows", "cols")
"""Outputs of image processors that models do not take."""


@dataclass(eq=False)
class ImageProcessing:
    """Image processor of a model, with its family. Picklable without its cache of pixels."""

    family: VisionFamily
    processor: Any
    """The image processor of transformers, by Pillow."""
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    beside: Mapping[str, str] = field(default_factory=dict)
    """Names and texts of further files of the model's processor, which are saved with it."""
    folders: tuple[str, ...] = ()
    """Folders of relative paths of images, in the order in which they are looked up."""
    _texts: dict[tuple[int, int], ImageText] = field(default_factory=dict)
    pixels: PixelCache = field(init=False)
    """Pixels of images that were used last or are needed next."""

    def __post_init__(self) -> None:
        self.pixels = PixelCache(self._read)

    @classmethod
    def load(
        cls,
        place: str,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        settings: VisionSettings | None = None,
    ) -> ImageProcessing | None:
        """The image processing of a model; None: it takes text alone.

        Args:
            place: folder or hub name of the model.
            config: its configuration.
            tokenizer: its tokenizer.
            settings: resolution; None: as the model's image processor has it.

        Raises:
            ModelError: the model has no image processor that transformers reads with Pillow, or its resolution is
                fixed.
        """
        family = family_of(config)
        if family is None:
            return None
        chosen = settings or VisionSettings()
        try:
            processor = AutoImageProcessor.from_pretrained(place, backend="pil")
            resolution = family.resized(processor, chosen.min_pixels, chosen.max_pixels)
            if resolution:  # saved with the model, so that it is served in this resolution
                processor = AutoImageProcessor.from_pretrained(place, backend="pil", **resolution)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise ModelError(
                given=f"{place} has no image processor: {' '.join(str(error).split())[:200]}",
                rule="a vision-language model has a preprocessor_config.json beside its weights",
                remedy="copy it from the model that this one was made from",
            ) from error
        folders = () if chosen.folder is None else (chosen.folder,)
        return cls(family, processor, config, tokenizer, _read_beside(place), folders)

    def save(self, folder: Path) -> None:
        """Writes the image processor, and the other files of the model's processor, into a model's folder."""
        self.processor.save_pretrained(folder)
        for name, text in self.beside.items():
            settings = json.loads(text)
            if "image_processor" in settings:  # where one file has all parts, they are read from there
                settings["image_processor"] = self.processor.to_dict()
            (folder / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "pixels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.pixels = PixelCache(self._read)

    def within(self, folders: Sequence[str]) -> ImageProcessing:
        """The same for data whose relative paths of images begin at these folders, unless the settings name one."""
        return self if self.folders else replace(self, folders=tuple(folders))

    def file_of(self, source: str) -> ImageFile:
        """The file of an image of a row.

        Raises:
            DataError: see `sources.image_file`.
        """
        return image_file(source, self.folders)

    @property
    def mark(self) -> str:
        """Text of an image in what the chat template writes."""
        return self.family.mark(self.tokenizer)

    @property
    def identity(self) -> str:
        """sha256 of what determines texts and pixels."""
        own = self.processor.to_dict()
        parts = [self.family.name, own, self.text_of(64, 64).text, self.folders]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def text_of(self, width: int, height: int) -> ImageText:
        """Text of an image of so many pixels, which determine it."""
        if (width, height) not in self._texts:
            processed = self._processed(Image.new("RGB", (width, height)))
            self._texts[width, height] = self.family.text_of(processed, self.config, self.tokenizer)
        return self._texts[width, height]

    def pixels_of(self, medium: MediaRef) -> Pixels:
        """Pixels of an image, from the cache or its file.

        Raises:
            DataError: the file is missing, or not what it was when the data set was tokenized.
        """
        return self.pixels.of(medium)

    def _read(self, medium: MediaRef) -> Pixels:
        data = read_file(Path(medium.source))
        if hashlib.sha256(data).hexdigest() != medium.digest:
            raise image_error(
                medium.source, "was changed after the data set was tokenized", "give the new image a name of its own"
            )
        processed = self._processed(read_picture(data, medium.source))
        return {name: value for name, value in processed.items() if name not in _NOT_PIXELS}

    def _processed(self, picture: Image.Image) -> Mapping[str, Any]:
        rows = {"return_row_col_info": True} if hasattr(self.processor, "return_row_col_info") else {}
        processed: Mapping[str, Any] = self.processor(images=[picture], return_tensors="pt", **rows)
        return processed


def _read_beside(place: str) -> dict[str, str]:
    files = {name: cached_file(place, name, _raise_exceptions_for_missing_entries=False) for name in _BESIDE}
    return {name: Path(file).read_text(encoding="utf-8") for name, file in files.items() if file is not None}
