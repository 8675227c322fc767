"""Opens the trackers of a recipe and sends each of them every line exactly once.

``trackers.json`` in the run folder counts the lines that each tracker got, so that a resumed run continues the same
tracked run: a tracker that was added later gets the earlier lines, and no line is sent twice.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.errors import RecipeError
from burnish.watch.journal_lines import MetricsLine
from burnish.watch.json_files import read_object
from burnish.watch.settings import TrackerName
from burnish.watch.trackers import TRACKERS, Tracker, TrackerRun

STATE_FILE = "trackers.json"


@dataclass(frozen=True, slots=True)
class Tracking:
    """Settings of a recipe for trackers."""

    names: Sequence[TrackerName] = ()
    """Names of trackers; empty: nothing is sent."""
    project: str = "burnish"
    run_name: str = ""
    """"": the run folder's name."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved recipe, sent to trackers."""

    def open(self, folder: Path, stage: str, done: int, history: Iterable[MetricsLine]) -> OpenTrackers:
        """Opens the trackers of a stage, and sends them the earlier lines that they lack.

        Args:
            folder: the run folder.
            stage: its name.
            done: steps done by earlier processes; 0: every tracker begins a new run.
            history: the lines of metrics.jsonl from before these steps.
        """
        state = read_object(folder / STATE_FILE) if done else {}
        past = [line for line in history if line.stage == stage]
        opened = OpenTrackers(folder, stage, state)
        for name in self.names:
            opened.add(name, self, done, past)
        return opened


NO_TRACKERS = Tracking()
"""Settings without trackers."""


def require_installed(names: Iterable[TrackerName]) -> None:
    """Raises RecipeError, with the extra's name, if a tracker's package is missing. Imports nothing."""
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # no origin: a folder of the same name
            raise RecipeError(
                given=f"trackers: {name}",
                rule=f"this tracker needs the package {name}, which is not installed",
                remedy=f"pip install 'burnish[{name}]', or leave it out of trackers",
            )


class OpenTrackers:
    """The open trackers of a stage; made by `Tracking.open`."""

    def __init__(self, folder: Path, stage: str, state: dict[str, Any]) -> None:
        self._folder = folder
        self._stage = stage
        self._state = {**state, stage: dict(state.get(stage, {}))}
        self._trackers: dict[TrackerName, Tracker] = {}
        self._written = 0
        """Number of lines of this stage in metrics.jsonl, alerts excluded, which every open tracker has."""

    @property
    def places(self) -> list[str]:
        """Names of the trackers, each with its URL or command."""
        return [f"{name}: {tracker.place}" for name, tracker in self._trackers.items()]

    def add(self, name: TrackerName, settings: Tracking, done: int, past: Sequence[MetricsLine]) -> None:
        """Opens one tracker and sends it the earlier lines that it lacks."""
        entry = self._state[self._stage].setdefault(name, {"id": secrets.token_hex(4), "seen": 0})
        opening = TrackerRun(
            folder=self._folder,
            project=settings.project,
            name=settings.run_name or self._folder.name,
            id=entry["id"],
            stage=self._stage,
            done=done,
            past=len(past),
            seen=entry["seen"],
            config=settings.config,
        )
        self._trackers[name] = tracker = TRACKERS[name](opening)
        entry["seen"] = tracker.seen
        self._written = len(past)
        self._send({name: past[tracker.seen :]})

    def write(self, lines: Sequence[MetricsLine]) -> None:
        """Sends every tracker the lines that it lacks."""
        ahead = {name: max(0, self._state[self._stage][name]["seen"] - self._written) for name in self._trackers}
        self._written += len(lines)
        self._send({name: lines[seen:] for name, seen in ahead.items()})

    def close(self, failed: bool) -> None:
        """Closes all trackers."""
        for tracker in self._trackers.values():
            tracker.close(failed)

    def _send(self, unsent: Mapping[TrackerName, Sequence[MetricsLine]]) -> None:
        """Stores the new counts, then sends the lines: a kill in between may lose lines, but duplicates none."""
        for name in unsent:
            entry = self._state[self._stage][name]
            entry["seen"] = max(entry["seen"], self._written)
        if unsent:
            partial = self._folder / f".{STATE_FILE}.partial"
            partial.write_text(json.dumps(self._state), encoding="utf-8")
            os.replace(partial, self._folder / STATE_FILE)
        for name, lines in unsent.items():
            for line in lines:
                self._trackers[name].log(line.step, line.metrics)
