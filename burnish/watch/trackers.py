"""Experiment trackers (TensorBoard, W&B, trackio), which get a run's metrics only if the recipe names them.

Each is one small class over its own library; `tracking` opens them, sends them lines, and stores how many they got.
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


class Tracker(Protocol):
    """Open run of a tracker. Its name is that of its package and of the extra of `burnish`."""

    seen: int
    """Number of lines of this run that it has already, determined on opening."""
    place: str
    """URL or command to view it."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends the metrics of one line; several lines may have the same step."""
        ...

    def close(self, failed: bool) -> None:
        """Sends pending data and closes the run; `failed`: the stage ended by an error."""
        ...


@dataclass(frozen=True, slots=True)
class TrackerRun:
    """Data with which a tracker opens a run."""

    folder: Path
    """The run folder."""
    project: str
    name: str
    """Display name of the run."""
    id: str
    """Unique id of the run, the same after a resume."""
    stage: str
    done: int
    """Steps done by earlier processes; 0: the run begins."""
    past: int
    """Number of lines of the stage in metrics.jsonl, all of earlier steps."""
    seen: int
    """Number of lines sent before, by trackers.json; may be larger than `past`."""
    config: Mapping[str, Any]
    """The resolved recipe."""


class TensorBoard:
    """Event files in ``tensorboard/`` of the run folder, by torch's own writer.

    A process that is killed loses the events that its writer has not written yet. So a resumed run drops all earlier
    events, and sends every line again.
    """

    def __init__(self, opening: TrackerRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # an optional extra

        folder = opening.folder / "tensorboard"
        self.place = f"tensorboard --logdir {folder}"
        self.seen = 0
        self._writer = SummaryWriter(str(folder / opening.stage), purge_step=0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self, failed: bool) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of W&B, online or as WANDB_MODE says. Code, git state and terminal output are not sent.

    Online, the server reports how many lines it has. Offline, every process writes a file of its own and a kill leaves
    it empty; so a file that was not synced yet is replaced by one with the whole run.
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
                given=f"trackers: wandb, which failed: {error}",
                rule="every tracker of the recipe must be usable",
                remedy="wandb login; or WANDB_MODE=offline; or leave it out of trackers",
            ) from error
        # The training step is a metric. W&B's own step must rise, and would refuse an evaluation after the line of its
        # step, so it counts lines.
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

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"step": step, **metrics}, step=self._row)
        self._row += 1

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=1 if failed else 0)


class Trackio:
    """A run in trackio's own folder on this machine, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says.

    On this machine, its database says how many lines it has: it writes with a delay, and a kill may come
    in between.
    """

    def __init__(self, opening: TrackerRun) -> None:
        import trackio  # an optional extra
        from trackio.sqlite_storage import SQLiteStorage

        remote = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
        # It identifies runs by name alone, so the name contains the id.
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
        self.seen = opening.seen if remote else SQLiteStorage.get_log_count(opening.project, name)
        self.place = f"trackio show --project {opening.project}"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self, failed: bool) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._library.finish()


TRACKERS: Mapping[TrackerName, type[TensorBoard | WeightsAndBiases | Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}
