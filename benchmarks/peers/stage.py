"""What Burnish's contenders have in common: the stage of a recipe is run by the loop that `burnish` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from burnish.loop import Stage
from burnish.recipe.read import ResolvedRecipe
from burnish.runs.folder import RunFolder
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.stages.determinism import repeatable
from burnish.watch.progress import open_progress
from burnish.watch.watch import Sinks
from peers.cases import ALPHA, RANK, AdapterKind

Lines = Sequence[dict[str, Any]]
ALIKE: dict[str, Any] = {
    "schedule": {"kind": "constant", "warmup_ratio": 0.0},
    "log_every": 1,
    "checkpoint_every": 1_000_000,
}
"""As TRL's trainers are set; a line comes after every step."""


@contextmanager
def stage_runner(
    origins: ResolvedRecipe,
    beside: AbstractContextManager[object],
    output: Path,
    heard: Callable[[Lines], None] = lambda _: None,
    *,
    seed: int = 0,
) -> Iterator[Callable[[Stage], None]]:
    """The conditions of a run. What is given runs a stage under them, and its lines are heard as they come."""
    with (
        repeatable(seed, only_deterministic=True),
        beside,
        RunFolder.open(output, origins.text({}), origins.identity()) as folder,
        open_progress(output / "log.txt") as progress,
        StopSignal() as stop,
    ):
        yield lambda stage: stage.run(StageFolder(folder, folder.path), Sinks(folder.path, heard, progress), stop)


def trained(lines: Lines) -> list[dict[str, Any]]:
    """The lines of steps among them."""
    return [line for line in lines if "train/loss" in line]


def adapter(kind: AdapterKind) -> dict[str, Any]:
    """As a recipe has it, of TRL's rank."""
    return {"kind": kind} if kind == "full" else {"kind": kind, "rank": RANK, "alpha": ALPHA}
