"""Image files: what is refused, with a clear message, and what is turned into an upright picture in RGB."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from burnish.errors import DataError
from burnish.vision.pictures import read_picture
from burnish.vision.sources import data_url, image_file, source_of
from tests.vision.small import picture, write_picture


def encoded(made: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    made.save(file, format=kind, **options)
    return file.getvalue()


def _png_of_size(width: int, height: int) -> bytes:
    """The beginning of a PNG file of any size, without its pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _animated(kind: str) -> bytes:
    return encoded(picture(1), kind, save_all=True, append_images=[picture(2), picture(3)])


GOOD = encoded(picture(1))
JPEG = encoded(picture(1), "JPEG")
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"not an image at all", "is not an image"),
    "html": (b"<!doctype html><html>404</html>", "is not an image"),
    "json": (b'{"error": "not found"}', "is not an image"),
    "pdf": (b"%PDF-1.7\n" + bytes(64), "is not an image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
    "zeros": (bytes(4096), "is not an image"),
    "pointer of git": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is not an image"),
    "half a PNG": (GOOD[: len(GOOD) // 2], "cannot be decoded"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "head of a PNG": (GOOD[:20], "cannot be decoded"),
    "PNG without pixels": (_png_of_size(8, 8), "cannot be decoded"),
    "damaged PNG": (GOOD[:60] + bytes(20) + GOOD[80:], "cannot be decoded"),
    "bomb": (_png_of_size(60_000, 60_000), "is too large"),
    "large bomb": (_png_of_size(2_000_000, 2_000_000), "is too large"),
    "no width": (_png_of_size(0, 8), ""),
    "no height": (_png_of_size(8, 0), ""),
    "line": (encoded(Image.new("RGB", (900, 2))), "one side is over 200 times the other"),
    "animated GIF": (_animated("GIF"), "is animated: it has 3 frames"),
    "animated WebP": (_animated("WEBP"), "is animated"),
    "animated PNG": (_animated("PNG"), "is animated"),
    "pages of a TIFF": (_animated("TIFF"), "is animated"),
    "16 bits": (encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16))), "more than 8 bits"),
    "floats": (encoded(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), "more than 8 bits"),
    "32 bits": (encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"), "more than 8 bits"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_refused_with_its_name_and_the_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(DataError) as refused:
        read_picture(data, "pictures/cat.png")
    assert "pictures/cat.png" in refused.value.given
    assert reason in refused.value.given
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no/such.png", "does not exist"),
        ("https://example.com/cat.png", "is on the web"),
        ("s3://bucket/cat.png", "is on the web"),
        ("data:image/png,abc", "without base64"),
        ("data:image/png;base64,@@@", "is not valid base64"),
        ("data:image/png;base64,aGVsbG8=", "is not an image"),
        ("data:image/png;base64,", "is empty"),
    ],
)
def test_a_bad_source_is_refused(source: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        image_file(source, [str(tmp_path)])


@pytest.mark.parametrize("source", ["zero\0byte.png", "~nobody-of-this-name/cat.png", "long" * 200 + ".png"])
def test_an_impossible_path_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read|does not exist"):
        image_file(source, [str(tmp_path)])


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        image_file(str(tmp_path), [])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_other_modes_become_rgb_with_the_same_colors(mode: str) -> None:
    made = picture(2).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    options: dict[str, object] = {"quality": 100, "subsampling": 0} if mode == "CMYK" else {}
    read = read_picture(encoded(made, kind, **options), "it")
    assert read.mode == "RGB"
    wanted = np.asarray(made.convert("RGB"), np.int64)
    assert np.abs(np.asarray(read, np.int64) - wanted).max() <= (12 if mode == "CMYK" else 0)


def test_transparent_pixels_become_white() -> None:
    made = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    made.putpixel((1, 1), (0, 0, 255, 255))
    read = read_picture(encoded(made), "it")
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((1, 1)) == (0, 0, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_upright(orientation: int, tmp_path: Path) -> None:
    """The stored pixels are turned back by the inverse of what the EXIF entry asks for."""
    undo: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda p: p,
        2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
        4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
        6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
        7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
        8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = undo[orientation](picture(3))
    path = tmp_path / "photo.png"
    stored.save(path, exif=exif)
    assert np.array_equal(np.asarray(read_picture(path.read_bytes(), "it")), np.asarray(picture(3)))
    file = image_file(str(path), [])
    assert (file.width, file.height) == picture(3).size


def test_a_color_profile_is_no_error() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_picture(encoded(picture(1), icc_profile=profile), "it").size == picture(1).size


def test_sources_of_one_image_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, base64, data URL, Pillow's picture and objects: the same content, and the cache holds it once."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    path = write_picture(tmp_path, 4)
    data = path.read_bytes()
    forms = [
        data,
        bytearray(data),
        {"bytes": data, "path": None},
        {"url": data_url(data)},
        "data:image/png;base64," + base64.b64encode(data).decode(),
        base64.encodebytes(data * 1).decode(),
    ]
    files = {image_file(str(source_of(form)), []) for form in forms}
    assert len(files) == 1
    [stored] = files
    assert Path(stored.path).read_bytes() == data
    assert (stored.width, stored.height) == (40, 24)
    by_path = image_file(path.name, ["/nowhere", str(tmp_path)])
    assert by_path.path == str(path)
    assert by_path.digest == stored.digest
    from_pillow = image_file(str(source_of(picture(4))), [])
    assert np.array_equal(np.asarray(Image.open(from_pillow.path)), np.asarray(picture(4)))
    assert source_of(7) is None
    assert source_of({"bytes": None, "path": "a.png"}) == "a.png"
