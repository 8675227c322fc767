"""Place of a model's files: an existing folder, or a name on the hub that can be fetched.

Everything that loads a model or a part of it resolves its name here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from burnish.builtin.places import PREFIX, misspelt
from burnish.errors import ModelError
from burnish.hub import Refusal, look_up, offline
from burnish.local_path import looks_like_path, nearest_path
from burnish.model.builtin import builtin_folder
from burnish.model.integrity import check_files
from burnish.watch.quiet import quiet_transformers

_RULE = (
    "a model is a hub name (owner/name) or an existing folder; a name that looks like a path, or begins with an "
    "existing folder, is never looked up on the hub"
)
_FILE_ENDINGS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".json", ".yaml", ".zip", ".tar.gz")


def find_place(name: str) -> str:
    """The absolute path of an existing folder (which an adapter stores as its base), or a hub name unchanged.

    A hub name is looked up with one request, and then known for the rest of the process.

    Raises:
        ModelError: there is no such folder, and the name can only be one, or the hub does not give it.
    """
    if name.startswith(PREFIX):
        return str(builtin_folder(name))
    folder = Path(name).expanduser()
    if not folder.exists() and (meant := misspelt(name)):
        raise ModelError(given=f"model: {name} is no folder here", rule=_RULE, remedy=f"did you mean {meant}?")
    if folder.is_dir():
        check_files(folder)
        return str(folder.resolve())
    if folder.exists() or looks_like_path(name, _FILE_ENDINGS):
        near = nearest_path(name, folders=True)
        raise ModelError(
            given=f"model: {name} is {'a file' if folder.exists() else 'no folder here'}",
            rule=_RULE,
            remedy=f"did you mean {near}?" if near else f"check the path; the current folder is {Path.cwd()}",
        )
    answer = look_up(name, "model")
    if isinstance(answer, Refusal):
        near = nearest_path(name, folders=True)
        raise ModelError(
            given=f"model: {name} is no folder here, and {answer.reason}",
            rule=_RULE,
            remedy=f"{f'did you mean {near}? Otherwise ' if near else ''}{answer.remedy}",
        )
    return name


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Context manager around the loading of a place's files: no messages of libraries, and no requests for files that
    can only be those that were fetched before."""
    with quiet_transformers():
        if Path(place).is_dir() or look_up(place, "model") != "cached":
            yield
            return
        with offline():
            yield


def unloadable(place: str, part: str, files: str, error: Exception) -> ModelError:
    """Error for a part of a model that a library cannot load.

    Args:
        place: see `find_place`.
        part: the part: tokenizer, configuration, model.
        files: files that it is in.
        error: the library's error.
    """
    reason = " ".join(str(error).split())[:300]
    if Path(place).is_dir():
        contents = ", ".join(sorted(path.name for path in Path(place).iterdir())[:12]) or "nothing"
        return ModelError(
            given=f"no usable {part} in {place} (it holds: {contents}); {reason}",
            rule=f"a model folder holds {files}",
            remedy="save the model there with save_pretrained, weights and tokenizer both",
        )
    return ModelError(
        given=f"the {part} of {place} could not be loaded: {reason}",
        rule="a model is a hub name that can be reached, or a folder on this machine",
        remedy="check the spelling and the network, or download the model and give its folder",
    )
