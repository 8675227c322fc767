"""A run that is finished: what it leaves behind, and whether its data are still those that it learned from.

Beside `run`, which makes it or finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import DataError, ModelError, RunError
from burnish.recipe.read import stage_names
from burnish.recipe.recipe import Recipe
from burnish.runs.stage_folder import StageFolder
from burnish.stages.supervised_data import StageContext


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves behind."""

    folder: Path
    """The run folder."""
    summary: Mapping[str, Any]
    """What finished.json holds: ``steps``, the fingerprint of the ``data``, and by what the ``inputs`` are known again;
    of several stages, ``stages``: by name, these of each."""
    again: bool
    """True: it had been finished before, nothing was done."""
    unread: str = ""
    """Why it is not known whether a run that had been finished would find the same data; "": they are the same."""

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage["steps"] for stage in self.summary.get("stages", {"": self.summary}).values())


def require_same_data(recipe: Recipe, path: Path, summary: Mapping[str, Any]) -> str:
    """Refuses to call a run finished whose data have changed since.

    Args:
        recipe: of the run.
        path: its folder.
        summary: as `RunResult.summary`.

    Returns:
        Why the data could not be compared: a finished run needs neither them nor its model any more. "": they are the
        same.

    Raises:
        RunError: they are others.
    """
    names = stage_names(recipe)
    stages = summary.get("stages", {names[0]: summary})
    models = [None, *map(str, StageFolder.models_before(path.absolute(), names))]
    for number, (name, model) in enumerate(zip(names, models, strict=True)):
        try:
            found = StageContext.of(recipe, number, model).facts()
        except (DataError, ModelError) as error:
            return error.given
        for kind, before in stages[name]["inputs"].items():
            if found[kind] != before:
                raise RunError(
                    given=f"the run folder {path} is finished, and {kind} of its stage {name} are others now",
                    rule="a run is finished with the data that it was given",
                    remedy="give another --output to learn from the new ones, or the old ones to find it finished",
                )
    return ""
