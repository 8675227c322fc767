"""Folder of one stage in a run folder: its checkpoints, its part of the journals, and its finished mark.

Stands between `folder` and the loop. The only stage of a run uses the run folder itself. Each of several stages has a
folder below it, with a model from which the next stage starts::

    stages/sft/  checkpoints/step-N/ · unusable.jsonl · model/ · finished.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from burnish.run_files import FINISHED, MODEL, STAGES
from burnish.runs.durable import repair, write_text
from burnish.runs.folder import RunFolder
from burnish.runs.json_value import JSON, strict_text


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """Result of a finished stage."""

    summary: Mapping[str, JSON]
    offsets: Mapping[str, int]
    """Bytes of the run's journals at its end, see `RunFolder.offsets`."""


@dataclass(frozen=True, eq=False, slots=True)
class StageFolder:
    """Folder of one stage."""

    run: RunFolder
    path: Path
    begin: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the run's journals before the stage's first line; empty: they were empty."""
    is_last: bool = True
    """Whether its model is the run's; the model of an earlier stage is in the stage's folder."""

    @classmethod
    def one_of_several(cls, run: RunFolder, name: str, begin: Mapping[str, int], *, is_last: bool) -> StageFolder:
        """The folder of one stage of several; created if it does not exist."""
        path = run.path / STAGES / name
        if run.world.is_main:
            path.mkdir(parents=True, exist_ok=True)
            repair(path)
        run.world.wait()
        return cls(run, path, begin, is_last)

    @staticmethod
    def finished_before(path: Path, names: Sequence[str]) -> list[Path | None]:
        """Model folders of the finished stages in order, up to the first unfinished one, without the last stage's;
        None: the stage writes no model.

        Args:
            path: the run folder, which need not exist.
            names: names of all stages in order.
        """
        places = (path / STAGES / name for name in names[:-1])
        done = takewhile(lambda place: (place / FINISHED).exists(), places)
        return [place / MODEL if (place / MODEL).is_dir() else None for place in done]

    @property
    def model(self) -> Path:
        """Folder of the stage's model, once it is finished."""
        return (self.run.path if self.is_last else self.path) / MODEL

    @property
    def finished(self) -> FinishedStage | None:
        """Result given to `mark_finished`; None: not finished. (The last stage is finished with its run.)"""
        path = self.path / FINISHED
        if self.is_last or not path.exists():
            return None
        return FinishedStage(**json.loads(path.read_text(encoding="utf-8")))

    def mark_finished(self, summary: Mapping[str, JSON]) -> None:
        """Marks an earlier stage as finished, after all its other files."""
        assert not self.is_last, "the last stage ends with its run"
        if self.run.world.is_main:
            stored: dict[str, JSON] = {"summary": summary, "offsets": self.offsets()}
            write_text(self.path / FINISHED, strict_text(stored) + "\n")
        self.run.world.wait()

    def write_model(self, write: Callable[[Path], None]) -> Path:
        """Calls `write` with an empty folder, which becomes the stage's model."""
        return self.run.replace_folder(str(self.model.relative_to(self.run.path)), write)

    def append_samples(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Appends one JSON object a line to the run's samples.jsonl."""
        self.run.append_samples(lines)

    def offsets(self) -> dict[str, int]:
        """Bytes of the run's journals, after a sync to the disk."""
        return self.run.offsets()

    def cut(self, offsets: Mapping[str, int] | None) -> None:
        """Removes metrics and samples after a checkpoint's offsets; None: all of the stage."""
        self.run.cut(self.begin if offsets is None else offsets)
