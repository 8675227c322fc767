"""The part of a run folder that is one stage's: its checkpoints, its share of the journals, whether it is finished.

Between `folder` and the loop. The only stage of a run has the run folder itself; of several, each has a folder of its
own below, and hands the next one its model::

    stages/sft/  checkpoints/step-N/ · unusable.jsonl · model/ · finished.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from burnish.runs.durable import repair, write_text
from burnish.runs.folder import STAGES, RunFolder
from burnish.runs.json_value import JSON, strict_text

_FINISHED = "finished.json"


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """What a stage left behind."""

    summary: Mapping[str, JSON]
    offsets: Mapping[str, int]
    """Bytes of the run's journals at its end, see `RunFolder.offsets`."""


@dataclass(frozen=True, eq=False, slots=True)
class StageFolder:
    """Where a stage keeps what is its own."""

    run: RunFolder
    path: Path
    begin: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the run's journals before the stage's first line; empty: they were empty."""
    is_last: bool = True
    """Its model is the run's; that of an earlier stage stands in the stage's folder."""

    @classmethod
    def one_of_several(cls, run: RunFolder, name: str, begin: Mapping[str, int], *, is_last: bool) -> StageFolder:
        """Made if it is not there."""
        path = run.path / STAGES / name
        path.mkdir(parents=True, exist_ok=True)
        repair(path)
        return cls(run, path, begin, is_last)

    @staticmethod
    def models_before(path: Path, names: Sequence[str]) -> list[Path]:
        """The models of the stages that are finished, from the first one on; the run's last never is. Nothing is
        opened: `path` need not be there."""
        places = (path / STAGES / name for name in names[:-1])
        return [place / "model" for place in takewhile(lambda place: (place / _FINISHED).exists(), places)]

    @property
    def model(self) -> Path:
        """Where the stage's model is, once it is finished."""
        return (self.run.path if self.is_last else self.path) / "model"

    @property
    def finished(self) -> FinishedStage | None:
        """What `mark_finished` was told; None: the stage is not finished. (The last one is when its run is.)"""
        path = self.path / _FINISHED
        if self.is_last or not path.exists():
            return None
        return FinishedStage(**json.loads(path.read_text(encoding="utf-8")))

    def mark_finished(self, summary: Mapping[str, JSON]) -> None:
        """Says, last of all, that the stage is finished; not the last one."""
        assert not self.is_last, "the last stage ends with its run"
        stored: dict[str, JSON] = {"summary": summary, "offsets": self.offsets()}
        write_text(self.path / _FINISHED, strict_text(stored) + "\n")

    def write_model(self, write: Callable[[Path], None]) -> Path:
        """Has `write` fill an empty folder, which then is the stage's model."""
        return self.run.replace_folder(str(self.model.relative_to(self.run.path)), write)

    def append_samples(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Appends one JSON object a line to the run's samples.jsonl."""
        self.run.append_samples(lines)

    def offsets(self) -> dict[str, int]:
        """Bytes of the run's journals, now on the disk."""
        return self.run.offsets()

    def cut(self, offsets: Mapping[str, int] | None) -> None:
        """Forgets figures and samples after a checkpoint's offsets; None: all of the stage."""
        self.run.cut(self.begin if offsets is None else offsets)
