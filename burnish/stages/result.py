"""Result of a finished run, and the check that its data did not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import DataError, ModelError, RunError
from burnish.recipe.read import stage_names
from burnish.recipe.recipe import Recipe
from burnish.runs.stage_folder import StageFolder
from burnish.stages.context import StageContext
from burnish.stages.kind import kind_of


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a run."""

    folder: Path
    """The run folder."""
    summary: Mapping[str, Any]
    """Content of finished.json: ``steps``, the fingerprint of the ``data``, and the fingerprints of the ``inputs``;
    with several stages ``stages``, these by name."""
    again: bool
    """True: the run was finished before, and nothing was done."""
    unread: str = ""
    """Reason why the data of a run that was finished before could not be compared; "": they are equal."""

    @property
    def steps(self) -> int:
        """Number of optimizer steps of all stages."""
        return sum(stage["steps"] for stage in self.summary.get("stages", {"": self.summary}).values())


def last_model(finished: Sequence[Path | None]) -> str | None:
    """Model that the next stage starts from: the newest of the finished stages; None: the recipe's."""
    return next((str(model) for model in reversed(finished) if model is not None), None)


def require_same_data(recipe: Recipe, path: Path, summary: Mapping[str, Any]) -> str:
    """Refuses a finished run whose data have changed since.

    Args:
        recipe: recipe of the run.
        path: its folder.
        summary: see `RunResult.summary`.

    Returns:
        Reason why the data could not be compared (a finished run needs neither them nor its model); "": they are equal.

    Raises:
        RunError: the data have changed.
    """
    names = stage_names(recipe)
    stages = summary.get("stages", {names[0]: summary})
    done = StageFolder.finished_before(path.absolute(), names)
    for number, name in enumerate(names):
        try:
            context: StageContext[Any] = StageContext.of(recipe, number, last_model(done[:number]))
            fingerprints = kind_of(recipe.stages[number]).fingerprints(context)
        except (DataError, ModelError) as error:
            return error.given
        for kind, before in stages[name]["inputs"].items():
            if fingerprints[kind] != before:
                raise RunError(
                    given=f"the run folder {path} is finished, and {kind} of its stage {name} have changed",
                    rule="a finished run keeps the data that it was trained on",
                    remedy="give another --output to train on the new data, or restore the old data",
                )
    return ""
