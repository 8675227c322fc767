"""Sources of images in rows: a path, or the image itself as a data URL; and the file that each becomes.

An image inside a row is written into the cache once, by its content, so that a reference to it is a path like any
other. Called while a data set is tokenized.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.local_path import cache_folder
from burnish.vision.errors import image_error
from burnish.vision.pictures import read_file, read_picture

_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*?(?P<base64>;base64)?,", re.IGNORECASE)
_WEB = re.compile(r"(https?|ftp|s3|gs|hf)://", re.IGNORECASE)
_FOLDER = "images"
"""Folder of the cache for images of rows."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Image as a file. Example: ``ImageFile("/data/cat.png", "9f86…", width=640, height=480)``."""

    path: str
    """Absolute path."""
    digest: str
    """sha256 of the file, hexadecimal."""
    width: int
    """Pixels, after the turn by the EXIF orientation."""
    height: int


def data_url(data: bytes) -> str:
    """Bytes of an image as a data URL."""
    return "data:;base64," + base64.b64encode(data).decode("ascii")


def source_of(entry: Any) -> str | None:
    """Source of an image as rows have it: a path, bytes, a Pillow picture, or an object with one of them; None: it is
    none of these."""
    if isinstance(entry, str) and entry:
        return entry
    if isinstance(entry, bytes | bytearray):
        return data_url(bytes(entry))
    if isinstance(entry, Mapping):
        found = (source_of(entry[name]) for name in ("bytes", "path", "url", "image") if entry.get(name) is not None)
        return next(found, None)
    if hasattr(entry, "save") and hasattr(entry, "mode"):  # a Pillow picture, as `datasets` decodes an image column
        file = io.BytesIO()
        entry.save(file, format="PNG")
        return data_url(file.getvalue())
    return None


def image_file(source: str, folders: Sequence[str]) -> ImageFile:
    """The file of an image, checked.

    Args:
        source: a path, a ``file://`` URL, a data URL, or base64.
        folders: folders of relative paths; the first that has the file counts, and the current folder comes last.

    Raises:
        DataError: it is missing, on the web, or no usable image; see `pictures.read_picture`.
    """
    if _WEB.match(source):
        raise image_error(source[:120], "is on the web", "download the images, and give their paths")
    embedded = _embedded(source)
    if embedded is None:
        path = _found(os.path.expanduser(source.removeprefix("file://")), folders)
        data = read_file(path)
        name = str(path)
    else:
        data, name = embedded, "in the row"
    picture = read_picture(data, name)
    digest = hashlib.sha256(data).hexdigest()
    if embedded is not None:
        path = _stored(data, digest)
    return ImageFile(str(path), digest, *picture.size)


def _found(path: str, folders: Sequence[str]) -> Path:
    """The absolute path; of one that does not exist, the place where it was sought first."""
    places = [os.path.abspath(os.path.join(folder, path)) for folder in (*folders, "")]
    return Path(next((place for place in places if os.path.isfile(place)), places[0]))


def _embedded(source: str) -> bytes | None:
    """Content of an image in the row; None: the source is a path."""
    if (match := _DATA_URL.match(source)) is not None:
        if match["base64"] is None:
            raise image_error("in the row", "is a data URL without base64", "encode it in base64")
        return _decoded(source[match.end() :])
    looks_encoded = len(source) > 256 and "." not in source[-8:] and re.fullmatch(r"[A-Za-z0-9+/=\s]+", source)
    return _decoded(source) if looks_encoded else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise image_error("in the row", f"is not valid base64: {error}") from error


def _stored(data: bytes, digest: str) -> Path:
    """The image in the cache, written atomically where it is not there yet."""
    path = cache_folder() / _FOLDER / digest[:2] / digest
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{digest}.{os.getpid()}")
        partial.write_bytes(data)
        os.replace(partial, path)
    return path
