"""Where the built-in models lie: folders in the package, as `save_pretrained` writes them.

`burnish.model.load` asks here for a name that begins with `PREFIX`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from burnish.errors import ModelError

PREFIX = "builtin:"
"""How names of what comes with the package begin."""

MODELS: Mapping[str, str] = MappingProxyType(
    {"tiny": "eb7ef6ff22d2cdad60b1f270020fdd3e18c284ee708354e812e2008dd675a6ef"}
)
"""Name -> sha256 of its model.safetensors."""


def model_folder(name: str) -> Path:
    """The folder of ``builtin:tiny``. Raises ModelError if no such model comes with the package."""
    known = [PREFIX + each for each in MODELS]
    if name not in known:
        raise ModelError(
            given=f"model: {name}",
            rule=f"the models that come with the package are: {', '.join(known)}",
            remedy="name one of them; a model of your own is a folder or a hub name",
        )
    return tiny_folder()


def tiny_folder() -> Path:
    """The base model of the little world: weights, configuration, tokenizer and card."""
    return Path(str(files("burnish.builtin") / "tiny-base"))
