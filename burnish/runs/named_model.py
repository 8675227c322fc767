"""Run folders as names of models: `burnish chat runs/sft` means the model that the run wrote."""

from __future__ import annotations

from pathlib import Path

from burnish.errors import ModelError
from burnish.model.settings import STAGE_PREFIX
from burnish.run_files import FINISHED, IDENTITY, MODEL


def find_run(name: str) -> Path | None:
    """The run folder of that name, absolute; None: the name is no run folder."""
    folder = Path(name).expanduser()
    return folder.resolve() if (folder / IDENTITY).is_file() else None


def resolve_model(name: str) -> str:
    """The model folder of a run; any other name, such as a hub name or a folder of a model, unchanged.

    Raises:
        ModelError: the run is not finished, or the name is that of a stage, which only a recipe has.
    """
    if name.startswith(STAGE_PREFIX):
        raise ModelError(
            given=name,
            rule=f"{STAGE_PREFIX}NAME is the model of an earlier stage of the same recipe",
            remedy="name the folder of that model: RUN/stages/NAME/model, or RUN if the stage is its last one",
        )
    run = find_run(name)
    if run is None:
        return name
    if not (run / MODEL).is_dir() or not (run / FINISHED).is_file():
        raise ModelError(
            given=f"{name} is a run that is not finished",
            rule="a run writes its model when it ends",
            remedy="run the command that started the run again: it resumes where it stopped",
        )
    return str(run / MODEL)
