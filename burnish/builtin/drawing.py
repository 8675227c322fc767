"""Pictures of 64 × 64 pixels: shapes and numbers on a plain background, drawn and encoded by integer arithmetic.

A pixel is an index into `PALETTE`. A PNG file holds the pixels uncompressed: what a compressor writes depends on its
version, and built-in data sets are the same bytes on every machine.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Literal

Kind = Literal["circle", "square", "triangle", "star", "cross"]
KINDS: tuple[Kind, ...] = ("circle", "square", "triangle", "star", "cross")
"""Kinds of shapes."""
SIZE = 64
"""Width and height of a picture."""
COLORS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (220, 40, 40),
        "green": (40, 170, 60),
        "blue": (50, 90, 235),
        "yellow": (240, 210, 40),
        "purple": (150, 60, 190),
        "orange": (245, 140, 30),
    }
)
"""Colors of shapes."""
LIGHT = ((255, 255, 255), (240, 240, 230), (225, 235, 240))
"""Light backgrounds."""
DARK = ((0, 0, 0), (40, 40, 40), (30, 30, 60))
"""Dark backgrounds."""
BACKGROUNDS = (*LIGHT, *DARK)
BLACK, WHITE = (10, 10, 10), (250, 250, 250)
"""Colors of numbers, on light and on dark backgrounds."""
PALETTE = (*BACKGROUNDS, *COLORS.values(), BLACK, WHITE)
"""All colors of a picture."""
DIGIT_WIDTH, DIGIT_HEIGHT, DIGIT_GAP = 9, 17, 2
"""Sizes of a digit, and the gap between two."""

_SEGMENTS = ((0, 0, 9, 3), (0, 0, 3, 9), (6, 0, 9, 9), (0, 7, 9, 10), (0, 8, 3, 17), (6, 8, 9, 17), (0, 14, 9, 17))
"""Strokes of a digit as left, top, right, bottom: top, upper left, upper right, middle, lower left, lower right,
bottom."""
_DIGITS = ("012456", "25", "02346", "02356", "1235", "01356", "013456", "025", "0123456", "012356")
"""Strokes of each digit, as indexes of `_SEGMENTS`."""
_STAR = (
    *((0, -1000), (235, -324), (951, -309), (380, 124), (588, 809)),
    *((0, 400), (-588, 809), (-380, 124), (-951, -309), (-235, -324)),
)
"""Corners of a star in thousandths of its radius."""


class Canvas:
    """Picture that is drawn on. Example: ``Canvas(0).shape("circle", "red", (20, 20), 7)``."""

    def __init__(self, background: int) -> None:
        self.pixels = bytearray([background]) * (SIZE * SIZE)
        """Row by row, indexes of `PALETTE`."""

    def shape(self, kind: Kind, color: str, center: tuple[int, int], radius: int) -> None:
        """Draws a shape that reaches `radius` pixels from its center at most."""
        index = len(BACKGROUNDS) + list(COLORS).index(color)
        for x, y in _points(kind, radius):
            self.pixels[(center[1] + y) * SIZE + center[0] + x] = index

    def number(self, value: int, corner: tuple[int, int]) -> None:
        """Draws a number by its upper left corner: black on a light background, white on a dark one."""
        index = len(PALETTE) - (2 if self.pixels[0] < len(LIGHT) else 1)
        for place, digit in enumerate(str(value)):
            left, top = corner[0] + place * (DIGIT_WIDTH + DIGIT_GAP), corner[1]
            for segment in _DIGITS[int(digit)]:
                x1, y1, x2, y2 = _SEGMENTS[int(segment)]
                for y in range(top + y1, top + y2):
                    self.pixels[y * SIZE + left + x1 : y * SIZE + left + x2] = bytes([index]) * (x2 - x1)


def png(pixels: bytes | bytearray) -> bytes:
    """PNG file of a picture: two pixels a byte, with the palette."""
    rows = b"".join(
        b"\0" + bytes(16 * first + second for first, second in zip(row[::2], row[1::2], strict=True))
        for row in (pixels[start : start + SIZE] for start in range(0, SIZE * SIZE, SIZE))
    )
    stored = b"\x01" + struct.pack("<HH", len(rows), 0xFFFF - len(rows)) + rows
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 4, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(value for color in PALETTE for value in color)),
            _chunk(b"IDAT", b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))),
            _chunk(b"IEND", b""),
        )
    )


def data_url(file: bytes) -> str:
    """URL that holds a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(file).decode('ascii')}"


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@cache
def _points(kind: Kind, radius: int) -> tuple[tuple[int, int], ...]:
    """Pixels of a shape, relative to its center."""
    span = range(-radius, radius + 1)
    return tuple((x, y) for y in span for x in span if _covers(kind, radius, x, y))


def _covers(kind: Kind, radius: int, x: int, y: int) -> bool:
    if kind == "circle":
        return x * x + y * y <= radius * (radius + 1)
    if kind == "square":
        return max(abs(x), abs(y)) < radius
    if kind == "triangle":
        return 2 * abs(x) <= radius + y
    if kind == "cross":
        return 3 * min(abs(x), abs(y)) < radius
    return _is_inside([(radius * across, radius * down) for across, down in _STAR], 1000 * x, 1000 * y)


def _is_inside(corners: Sequence[tuple[int, int]], x: int, y: int) -> bool:
    """Whether a ray to the right crosses the polygon an odd number of times."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if (y1 > y) != (y2 > y):
            side = (x2 - x1) * (y - y1) - (x - x1) * (y2 - y1)
            inside ^= side > 0 if y2 > y1 else side < 0
    return inside
