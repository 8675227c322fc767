"""Folders of the built-in models in the package, as `save_pretrained` writes them.

`burnish.model.load` uses it for names that begin with `PREFIX`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from burnish.errors import ModelError
from burnish.similar import similar

PREFIX = "builtin:"
"""Prefix of the names of built-in models and data sets."""


def misspelt(name: str) -> str | None:
    """The name with the right prefix, if it has a similar one, such as ``bultin:tiny``; None: it has none."""
    head, colon, rest = name.partition(":")
    return PREFIX + rest if colon and head + colon != PREFIX and similar(head, [PREFIX[:-1]]) else None


MODELS: Mapping[str, str] = MappingProxyType(
    {"tiny": "eb7ef6ff22d2cdad60b1f270020fdd3e18c284ee708354e812e2008dd675a6ef"}
)
"""Name -> sha256 of its model.safetensors."""


def model_folder(name: str) -> Path:
    """Folder of a built-in model, such as ``builtin:tiny``. Raises ModelError if there is none of this name."""
    known = [PREFIX + model for model in MODELS]
    if name not in known:
        raise ModelError(
            given=f"model: {name}",
            rule=f"the built-in models are: {', '.join(known)}",
            remedy=f"did you mean {near[0]}?"
            if (near := similar(name, known))
            else "name one of them; a model of your own is a folder or a hub name",
        )
    return tiny_folder()


def tiny_folder() -> Path:
    """Folder of the built-in base model: weights, configuration, tokenizer and model card."""
    return Path(str(files("burnish.builtin") / "tiny-base"))
