"""Names of the built-in models, and what of them lies in the package.

`burnish.model.builtin` finds their folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from burnish.similar import similar

PREFIX = "builtin:"
"""Prefix of the names of built-in models and data sets."""


def misspelt(name: str) -> str | None:
    """The name with the right prefix, if it has a similar one, such as ``bultin:tiny``; None: it has none."""
    head, colon, rest = name.partition(":")
    return PREFIX + rest if colon and head + colon != PREFIX and similar(head, [PREFIX[:-1]]) else None


MODELS: Mapping[str, str] = MappingProxyType(
    {
        "tiny": "eb7ef6ff22d2cdad60b1f270020fdd3e18c284ee708354e812e2008dd675a6ef",
        "small": "7601727701b4e16a30771579b346f59a8dd31b4f4aacddbedd4530b92c18ac3c",
        "tiny-vision": "ddbad274de0c50e5c2e578f11579e2b1adf6abf366db98b9afe61e930942ab77",
    }
)
"""Name -> sha256 of its model.safetensors. tiny and tiny-vision lie in the package; `burnish.model.builtin` makes small
of tiny."""


def tiny_folder() -> Path:
    """Folder of the built-in base model: weights, configuration, tokenizer and model card."""
    return Path(str(files("burnish.builtin") / "tiny-base"))


def tiny_vision_folder() -> Path:
    """Folder of the built-in vision-language base model: that of ``builtin:tiny`` with a vision tower."""
    return Path(str(files("burnish.builtin") / "tiny-vision"))


def small_card() -> Path:
    """Model card of ``builtin:small``, which has no other file in the package."""
    return Path(str(files("burnish.builtin") / "small-base" / "README.md"))
