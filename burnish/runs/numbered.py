"""Run folders that nobody named: ``runs/sft``, ``runs/sft-2``, … A run finds its own folder again. Imports no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

from burnish.recipe.read import ResolvedRecipe
from burnish.run_files import CHECKPOINTS, FINISHED, IDENTITY, LOCK, STAGES
from burnish.runs.extension import LengthKeys
from burnish.runs.json_value import JSON, same
from burnish.runs.lock import is_locked


def in_own_folder(recipe: ResolvedRecipe, *, fresh: bool = False) -> ResolvedRecipe:
    """The recipe with the folder that its run has.

    A folder that was named is kept. Otherwise it is the newest folder of a run with the same settings, so that the same
    command resumes; or else the next number. A folder whose run ended before its first checkpoint is used again.

    Args:
        recipe: its output is a folder's name without a number.
        fresh: a new folder in any case, numbered beside one that was named.
    """
    base = Path(str(recipe.recipe.output))
    if not (fresh or recipe.output_is_default):
        return recipe
    folders = _numbered(base)
    newest = folders[max(folders)] if folders else None
    if not fresh:
        identity = recipe.identity()
        for number in sorted(folders, reverse=True):
            if _holds(folders[number], identity):
                return recipe.at(str(folders[number]))
    if newest is None:
        return recipe
    if not fresh and _can_start_again(newest):
        return recipe.at(str(newest))
    return recipe.at(f"{base}-{max(folders) + 1}")


def shorter_run(recipe: ResolvedRecipe) -> Path | None:
    """Folder of the newest run that differs from this one in its length alone, and is shorter; None: there is none.

    Args:
        recipe: its output is a folder's name without a number.
    """
    keys, identity = LengthKeys.of(recipe.recipe), recipe.identity()
    folders = _numbered(Path(str(recipe.recipe.output)))
    for number in sorted(folders, reverse=True):
        stored = _stored_identity(folders[number])
        if stored is not None and keys.may_be_longer(stored, identity):
            return folders[number]
    return None


def _numbered(base: Path) -> dict[int, Path]:
    """Number → existing path; the base itself has the number 1."""
    paths = {1: base} if base.exists() else {}
    for path in base.parent.glob(f"{base.name}-*"):
        if match := re.fullmatch(r"-([1-9]\d*)", path.name.removeprefix(base.name)):
            paths[int(match[1])] = path
    return paths


def _holds(folder: Path, identity: dict[str, object]) -> bool:
    """Whether a run with these settings was started in the folder."""
    stored = _stored_identity(folder)
    return stored is not None and same(stored, identity)  # type: ignore[arg-type]


def _stored_identity(folder: Path) -> dict[str, JSON] | None:
    try:
        stored = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    identity = stored.get("identity") if isinstance(stored, dict) else None
    return identity if isinstance(identity, dict) else None


def _can_start_again(folder: Path) -> bool:
    """Whether the folder has a run that no process works on and that has nothing to resume."""
    if not (folder / IDENTITY).is_file():
        return folder.is_dir() and not any(folder.iterdir())
    parts = [folder, *folder.glob(f"{STAGES}/*")]
    if any((part / FINISHED).exists() or any(part.glob(f"{CHECKPOINTS}/*")) for part in parts):
        return False
    return not ((folder / LOCK).is_file() and is_locked(folder / LOCK))
