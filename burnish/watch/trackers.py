"""Trackers: other programs that a run's figures go to, when the recipe asks for it. Nothing is sent unless asked.

Each is one small class over its own library; `tracking` opens them, shows them lines, and remembers what they saw.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from burnish.errors import RecipeError
from burnish.watch.settings import TrackerName

"""The package that it needs and the extra of `burnish` have the same name."""


class Tracker(Protocol):
    """One open tracked run."""

    seen: int
    """Lines of this run that it need not be shown any more, found out on opening."""
    place: str
    """Where to look at it, for people."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Takes the figures of one line; several lines may have the same step."""
        ...

    def close(self, failed: bool) -> None:
        """Writes what is left; `failed`: the stage ended by an error."""
        ...


@dataclass(frozen=True, slots=True)
class TrackerRun:
    """All that a tracker needs to open a run."""

    folder: Path
    """The run folder."""
    project: str
    name: str
    """Of the run, for people."""
    id: str
    """Of the run, for machines; the same after a resume."""
    stage: str
    done: int
    """Steps that were done before; 0: the run begins."""
    past: int
    """Lines of the stage in metrics.jsonl, all of steps that were done before."""
    seen: int
    """Lines that the tracker was shown before, as we remember; there may be more of them than `past`."""
    config: Mapping[str, Any]
    """The resolved recipe."""


class TensorBoard:
    """Event files in ``tensorboard/`` of the run folder, by torch's own writer.

    TensorBoard drops what came after the step where a run goes on, so those lines are shown again.
    """

    def __init__(self, opening: TrackerRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # an optional extra

        folder = opening.folder / "tensorboard"
        self.place = f"tensorboard --logdir {folder}"
        self.seen = min(opening.seen, opening.past)
        self._writer = SummaryWriter(str(folder / opening.stage), purge_step=opening.done + 1 if opening.done else 0)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self, failed: bool) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of W&B, online or as WANDB_MODE says. Code, git state and terminal output are not sent.

    Online, the server says what it has seen. Offline, every process writes a file of its own and a kill leaves it
    empty; so a file that was not yet synced is replaced by one that has the whole run.
    """

    def __init__(self, opening: TrackerRun) -> None:
        import wandb  # an optional extra

        place = Path(os.environ.get("WANDB_DIR", opening.folder))
        files = list(place.glob(f"wandb/offline-run-*-{opening.id}"))
        unsynced = [file for file in files if not list(file.glob("*.synced"))]

        quiet = wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True)
        try:
            self._run = wandb.init(
                project=opening.project,
                name=opening.name,
                id=opening.id,
                resume="allow",
                dir=place,
                config=dict(opening.config),
                settings=quiet,
            )
        except wandb.errors.Error as error:
            raise RecipeError(
                given=f"trackers: wandb, which says: {error}",
                rule="a tracker that is asked for takes the figures",
                remedy="wandb login; or WANDB_MODE=offline; or leave it out of trackers",
            ) from error
        # Our step is a figure like others. W&B's own only rises, and would refuse an evaluation after its step's line:
        # it counts lines.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        if self._run.offline:
            for file in unsynced:
                shutil.rmtree(file)
            self.seen = 0 if len(unsynced) == len(files) else opening.seen
        else:
            self.seen = self._run.step
        self._row = self.seen
        offline = f"wandb sync {Path(self._run.dir).parent}"
        self.place = offline if self._run.offline else self._run.url

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({"step": step, **figures}, step=self._row)
        self._row += 1

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)


class Trackio:
    """A run in trackio's own folder on this machine, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says.

    On this machine, its own books say what it has seen: it writes a little later than it is told, and a kill may come
    between.
    """

    def __init__(self, opening: TrackerRun) -> None:
        import trackio  # an optional extra
        from trackio.sqlite_storage import SQLiteStorage

        elsewhere = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
        # It knows runs by their name alone, so the name has the id in it.
        name = f"{opening.name}-{opening.id}"
        with contextlib.redirect_stdout(io.StringIO()):
            self._run = trackio.init(
                project=opening.project,
                name=name,
                resume="allow",
                config=dict(opening.config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._library = trackio
        self.seen = opening.seen if elsewhere else SQLiteStorage.get_log_count(opening.project, name)
        self.place = f"trackio show --project {opening.project}"

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, failed: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._library.finish()


TRACKERS: Mapping[TrackerName, type[TensorBoard | WeightsAndBiases | Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}
