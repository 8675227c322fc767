"""Which trackers a run was asked to have, and what each of them has seen.

Between the watch and its trackers. ``trackers.json`` in the run folder counts the lines that each was shown, so that a
resumed run continues the same tracked run: a tracker that was asked for late is shown the past, one that has seen a
line is not shown it again.
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
from burnish.watch.lines import read_object
from burnish.watch.settings import TrackerName
from burnish.watch.trackers import TRACKERS, Tracker, TrackerRun

MEMORY = "trackers.json"


@dataclass(frozen=True, slots=True)
class Tracking:
    """What the recipe says about trackers."""

    names: Sequence[TrackerName] = ()
    """Empty: nothing is sent anywhere."""
    project: str = "burnish"
    run_name: str = ""
    """"": the run folder's name."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved recipe, which trackers show beside the run."""

    def open(self, folder: Path, stage: str, done: int, history: Iterable[Mapping[str, Any]]) -> OpenTrackers:
        """Opens the trackers of a stage, and shows them what they have not seen of the past.

        Args:
            folder: the run folder.
            stage: its name.
            done: steps that were done before; 0: every tracker begins a new run.
            history: the lines of metrics.jsonl from before these steps.
        """
        memory = read_object(folder / MEMORY) if done else {}
        past = [line for line in _figures_only(history) if line["stage"] == stage]
        opened = OpenTrackers(folder, stage, memory)
        for name in self.names:
            opened.add(name, self, done, past)
        return opened


NOWHERE = Tracking()
"""No trackers."""


def require_installed(names: Iterable[TrackerName]) -> None:
    """Raises RecipeError, with the extra's name, if a tracker's package is missing. Imports nothing."""
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # no origin: a folder that happens to have the name
            raise RecipeError(
                given=f"trackers: {name}",
                rule=f"this tracker needs the package {name}, which is not installed",
                remedy=f"pip install 'burnish[{name}]', or leave it out of trackers",
            )


class OpenTrackers:
    """The open trackers of a stage; made by `Tracking.open`."""

    def __init__(self, folder: Path, stage: str, memory: dict[str, Any]) -> None:
        self._folder = folder
        self._stage = stage
        self._memory = {**memory, stage: dict(memory.get(stage, {}))}
        self._trackers: dict[TrackerName, Tracker] = {}
        self._written = 0
        """Lines of this stage in metrics.jsonl, alerts left out: every open tracker has seen them."""

    @property
    def places(self) -> list[str]:
        """Where to look at each, for people."""
        return [f"{name}: {tracker.place}" for name, tracker in self._trackers.items()]

    def add(self, name: TrackerName, asked: Tracking, done: int, past: Sequence[Mapping[str, Any]]) -> None:
        """Opens one tracker and shows it what it has not seen of the past."""
        known = self._memory[self._stage].setdefault(name, {"id": secrets.token_hex(4), "seen": 0})
        opening = TrackerRun(
            folder=self._folder,
            project=asked.project,
            name=asked.run_name or self._folder.name,
            id=known["id"],
            stage=self._stage,
            done=done,
            past=len(past),
            seen=known["seen"],
            config=asked.config,
        )
        self._trackers[name] = tracker = TRACKERS[name](opening)
        known["seen"] = tracker.seen
        self._written = len(past)
        self._show({name: past[tracker.seen :]})

    def write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Shows every tracker the lines that it has not seen; alerts are not for them."""
        lines = _figures_only(lines)
        ahead = {name: max(0, self._memory[self._stage][name]["seen"] - self._written) for name in self._trackers}
        self._written += len(lines)
        self._show({name: lines[seen:] for name, seen in ahead.items()})

    def close(self, failed: bool) -> None:
        """Closes them all."""
        for tracker in self._trackers.values():
            tracker.close(failed)

    def _show(self, fresh: Mapping[TrackerName, Sequence[Mapping[str, Any]]]) -> None:
        """Counts first: a kill between counting and showing doubles no line."""
        for name in fresh:
            known = self._memory[self._stage][name]
            known["seen"] = max(known["seen"], self._written)
        if fresh:
            partial = self._folder / f".{MEMORY}.partial"
            partial.write_text(json.dumps(self._memory), encoding="utf-8")
            os.replace(partial, self._folder / MEMORY)
        for name, lines in fresh.items():
            for line in lines:
                figures = {key: value for key, value in line.items() if isinstance(value, int | float)}
                step = figures.pop("step")
                self._trackers[name].log(int(step), figures)


def _figures_only(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [line for line in lines if "alert" not in line]
