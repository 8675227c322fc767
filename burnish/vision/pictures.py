"""Pictures: image files read with bounds, turned upright, in RGB.

Used when a data set is tokenized (checks and sizes) and when a microbatch is computed (pixels).
"""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import DecompressionBombError, DecompressionBombWarning

from burnish.vision.errors import image_error
from burnish.vision.settings import MAX_FILE_PIXELS

_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of more than 8 bits, which Pillow converts to RGB by cutting off."""
_THUMBNAIL = 160
"""Longest side of a thumbnail, pixels."""
_MAX_RATIO = 200
"""Largest ratio of the sides; image processors refuse more."""


def read_picture(data: bytes, name: str) -> Image.Image:
    """Decodes an image to RGB, turned upright by its EXIF orientation, on white where it is transparent.

    Args:
        data: content of the file.
        name: path of the image, or its place in the row, for messages.

    Raises:
        DataError: it is empty, broken, no image, animated, too large, has no pixels, or more than 8 bits per channel.
    """
    if not data:
        raise image_error(name, "is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DecompressionBombWarning)  # the bound below is ours
            warnings.filterwarnings("ignore", message=".*EXIF.*", category=UserWarning)
            opened = Image.open(io.BytesIO(data))
            _check(opened, name)
            opened.load()
            return _as_rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError as error:
        raise image_error(name, f"is not an image: it begins with {data[:12]!r}") from error
    except DecompressionBombError as error:
        raise _too_large(name, "more than Pillow's bound of") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise image_error(name, f"cannot be decoded: {' '.join(str(error).split())[:200]}") from error


def read_file(path: Path) -> bytes:
    """Content of an image file.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise image_error(
            str(path),
            "does not exist",
            "correct the path; relative paths begin at the folder of the data file, or at vision.folder",
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise image_error(str(path)[:200], f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def thumbnail(path: str) -> str:
    """Small picture of an image file as a data URL, for pages.

    Raises:
        DataError: the file is missing, or no usable image.
    """
    picture = read_picture(read_file(Path(path)), path)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _check(opened: Image.Image, name: str) -> None:
    width, height = opened.size
    if not width or not height:
        raise image_error(name, f"has {width} × {height} pixels")
    if width * height > MAX_FILE_PIXELS:
        raise _too_large(name, f"{width} × {height} pixels, more than")
    if max(width, height) > _MAX_RATIO * min(width, height):
        raise image_error(name, f"has {width} × {height} pixels: one side is over {_MAX_RATIO} times the other")
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":  # MPO: a photo with its own preview
        raise image_error(name, f"is animated: it has {frames} frames", "give one frame as an image")
    if opened.mode in _WIDE_MODES:
        raise image_error(
            name, f"has more than 8 bits per channel (mode {opened.mode})", "convert it to 8 bits per channel"
        )


def _too_large(name: str, given: str) -> Exception:
    return image_error(name, f"is too large: {given} {MAX_FILE_PIXELS:,}", "reduce the image, or delete the row")


def _as_rgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB; transparent pixels become white, as servers do."""
    if picture.mode == "RGB":
        return picture
    if "A" in picture.getbands() or "transparency" in picture.info:
        with_alpha = picture.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return picture.convert("RGB")
