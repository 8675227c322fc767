"""Folders of the built-in models by name: ``builtin:small`` is made of ``builtin:tiny`` here, others are packaged.

``builtin:small`` is ``builtin:tiny`` with a new layer after every layer, a copy whose output projections are 0 (block
expansion, LLaMA Pro, arXiv 2401.02415): at first a new layer adds 0, so both models compute the same function, to the
bit. Departs from the paper in that nothing is frozen. The folder is written into the cache when it is first named, and
compared with what it has to be whenever it is named again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from burnish.builtin.places import MODELS, PREFIX, small_card, tiny_folder, tiny_vision_folder
from burnish.errors import ModelError
from burnish.local_path import cache_folder
from burnish.similar import similar

_LAYER = "model.layers."
_ZERO = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""Ends of the names of a layer's output projections."""
_WEIGHTS, _CONFIG, _CARD = "model.safetensors", "config.json", "README.md"


def builtin_folder(name: str) -> Path:
    """Folder of a built-in model, such as ``builtin:tiny``.

    Raises:
        ModelError: there is none of this name, or its folder cannot be written.
    """
    known = [PREFIX + model for model in MODELS]
    if name not in known:
        raise ModelError(
            given=f"model: {name}",
            rule=f"the built-in models are: {', '.join(known)}",
            remedy=f"did you mean {near[0]}?"
            if (near := similar(name, known))
            else "name one of them; a model of your own is a folder or a hub name",
        )
    if name == f"{PREFIX}small":
        return _small_folder()
    return tiny_folder() if name == f"{PREFIX}tiny" else tiny_vision_folder()


def expand(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a Llama with a new layer after every layer: a copy, its output projections 0."""
    expanded = {name: tensor for name, tensor in weights.items() if not name.startswith(_LAYER)}
    for name, tensor in weights.items():
        if name.startswith(_LAYER):
            index, part = name.removeprefix(_LAYER).split(".", 1)
            new = torch.zeros_like(tensor) if part.endswith(_ZERO) else tensor.clone()
            expanded |= {f"{_LAYER}{2 * int(index)}.{part}": tensor, f"{_LAYER}{2 * int(index) + 1}.{part}": new}
    return expanded


def _small_folder() -> Path:
    """The cache's folder of ``builtin:small``, whole; named by its content, so that versions do not share one."""
    files = _small_files()
    digest = hashlib.sha256(MODELS["small"].encode() + b"".join(files.values())).hexdigest()
    folder = cache_folder() / "models" / f"builtin-small-{digest[:16]}"
    if not _is_whole(folder, files):
        try:
            _write(folder, files)
        except OSError as error:
            raise ModelError(
                given=f"model: {PREFIX}small, and {folder} cannot be written: {error}",
                rule="it is made of builtin:tiny when it is first named, and kept in the cache (15 MB)",
                remedy="set BURNISH_CACHE to a folder that can be written, or free space there",
            ) from error
    return folder.resolve()


def _small_files() -> dict[str, bytes]:
    """The files beside the weights: those of ``builtin:tiny`` with twice the layers, and a card of its own."""
    files = {path.name: path.read_bytes() for path in sorted(tiny_folder().iterdir()) if path.name != _WEIGHTS}
    config = json.loads(files[_CONFIG])
    config["num_hidden_layers"] *= 2
    return files | {_CONFIG: f"{json.dumps(config, indent=2)}\n".encode(), _CARD: small_card().read_bytes()}


def _is_whole(folder: Path, files: dict[str, bytes]) -> bool:
    try:
        if any((folder / name).read_bytes() != content for name, content in files.items()):
            return False
        with (folder / _WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == MODELS["small"]
    except OSError:
        return False


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the folder under another name and renames it, so that its own name is never a part of it."""
    weights = save(expand(load_file(tiny_folder() / _WEIGHTS)), metadata={"format": "pt"})
    assert hashlib.sha256(weights).hexdigest() == MODELS["small"], "the same bits on every machine"
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, broken = (folder.with_name(f".{kind}-{secrets.token_hex(8)}") for kind in ("partial", "broken"))
    partial.mkdir()
    try:
        for name, content in {**files, _WEIGHTS: weights}.items():
            (partial / name).write_bytes(content)
        if folder.exists():
            os.rename(folder, broken)
        os.rename(partial, folder)
    except OSError:
        if not _is_whole(folder, files):  # else another process has just written it
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(broken, ignore_errors=True)
