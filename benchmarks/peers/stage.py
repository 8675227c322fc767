"""Common part of Burnish's contenders: runs the stage of a recipe as the command `burnish` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from burnish.recipe.read import ResolvedRecipe
from burnish.runs.folder import RunFolder
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.stages.context import StageContext
from burnish.stages.determinism import repeatable
from burnish.stages.kind import build_job, kind_of
from burnish.train.loop import Stage
from burnish.watch.progress import open_progress
from burnish.watch.watch import Sinks
from peers.cases import ALPHA, RANK, AdapterKind

Lines = Sequence[dict[str, Any]]
ALIKE: dict[str, Any] = {
    "schedule": {"kind": "constant", "warmup_ratio": 0.0},
    "log_every": 1,
    "checkpoint_every": 1_000_000,
}
"""Settings equal to those of TRL's trainers; a line of metrics after every step."""


@contextmanager
def stage_runner(
    origins: ResolvedRecipe,
    background: AbstractContextManager[object],
    output: Path,
    on_lines: Callable[[Lines], None] = lambda _: None,
    *,
    seed: int = 0,
) -> Iterator[Callable[[Stage], object]]:
    """Context of a run; yields a function that runs a stage in it and passes lines of metrics to `on_lines`."""
    with (
        repeatable(seed, only_deterministic=True),
        background,
        RunFolder.open(output, origins.text({}), origins.identity()) as folder,
        open_progress(output / "log.txt") as progress,
        StopSignal() as stop,
    ):
        yield lambda stage: stage.run(StageFolder(folder, folder.path), Sinks(folder.path, on_lines, progress), stop)


def opened_data(origins: ResolvedRecipe) -> Any:
    """The opened data of the recipe's only stage."""
    [stage] = origins.recipe.stages
    return kind_of(stage).open(StageContext.of(origins.recipe))


def assembled(data: Any) -> Stage:
    """The stage of opened data, with its models loaded, ready to run."""
    [stage] = data.context.recipe.stages
    job = build_job(kind_of(stage), data, stage.method)
    assert isinstance(job, Stage), "the stages that are compared train"
    return job


def trained(lines: Lines) -> list[dict[str, Any]]:
    """Lines of training steps."""
    return [line for line in lines if "train/loss" in line]


def adapter(kind: AdapterKind) -> dict[str, Any]:
    """Adapter settings of a recipe, with TRL's rank."""
    return {"kind": kind} if kind == "full" else {"kind": kind, "rank": RANK, "alpha": ALPHA}
