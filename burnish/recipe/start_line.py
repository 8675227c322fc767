"""First line of a run: what begins, printed before torch is imported, which takes seconds."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version

from burnish.data.settings import ROWS_IN_MEMORY, is_stored_rows
from burnish.recipe.read import ResolvedRecipe, stage_names
from burnish.settings.data import DataField, sources
from burnish.watch.format import shorten

_MIN_NAME = 12
"""Smallest width to which a name is shortened, columns."""


def start_line(origins: ResolvedRecipe, width: int | None = None) -> str:
    """Line that says what a recipe runs.

    Args:
        origins: the recipe.
        width: columns; names and paths are shortened in their middle to fit. None: nothing is shortened.

    Example: ``burnish 0.1.0: sft of builtin:tiny on demos.jsonl → runs/sft``.
    """
    recipe = origins.recipe
    data = _data_text(recipe.stages[0].settings.data) if len(recipe.stages) == 1 else ""
    names = [name for name in (recipe.model, data, str(recipe.output)) if name]
    words = [f"burnish {version('burnish')}: {', '.join(stage_names(recipe))} of ", *([" on "] if data else []), " → "]
    if width is not None:
        names = _fitting(names, width - sum(map(len, words)))
    return "".join(text for pair in zip(words, names, strict=True) for text in pair)


def print_start(origins: ResolvedRecipe) -> None:
    """Prints the first line of a run on standard error, at once."""
    print(start_line(origins, shutil.get_terminal_size().columns), file=sys.stderr, flush=True)


def _data_text(data: DataField) -> str:
    """Paths of the data; of more than two, the first and the number of the others."""
    paths = [ROWS_IN_MEMORY if is_stored_rows(source.path) else source.path for source in sources(data)]
    return ", ".join(paths) if len(paths) <= 2 else f"{paths[0]} and {len(paths) - 1} more"


def _fitting(names: Sequence[str], space: int) -> list[str]:
    """The names, of which the longest are shortened until all of them fit."""
    fitting = list(names)
    while sum(map(len, fitting)) > space and (longest := max(fitting, key=len)) and len(longest) > _MIN_NAME:
        index = fitting.index(longest)
        fitting[index] = shorten(names[index], len(longest) - 1)
    return fitting
