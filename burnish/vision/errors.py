"""Errors of images."""

from __future__ import annotations

from burnish.errors import DataError


def image_error(name: str, given: str, remedy: str = "") -> DataError:
    """A DataError of one image.

    Args:
        name: path of the image, or its place in the row.
        given: what is wrong.
        remedy: what to do; "": correct the image or delete the row.
    """
    return DataError(
        given=f"the image {name} {given}",
        rule="an image is one still picture in a file that Pillow reads (PNG, JPEG, WebP, …)",
        remedy=remedy or "correct the image, or delete the row",
    )
