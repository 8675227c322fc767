"""The watch: what the loop tells reaches the file, the people, the trackers and the report, in this order of things."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch
from rich.console import Console

from burnish.errors import DivergenceError, Interrupted
from burnish.watch import tracking as module
from burnish.watch.progress import Progress
from burnish.watch.tracking import Tracking
from burnish.watch.watch import Sinks, Watch
from tests.watch.test_tracking import Books, make_tracker

CPU = torch.device("cpu")


class Folder:
    """Metrics and terminal output of a run folder."""

    def __init__(self, path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.terminal = io.StringIO()
        self.progress = Progress(Console(file=self.terminal), (path / "log.txt").open("a"))

    def append(self, lines) -> None:
        with self.metrics.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def watch(self, done: int = 0, tracking: Tracking | None = None) -> Watch:
        listeners = Sinks(self.path, self.append, self.progress, tracking or Tracking())
        return Watch("sft", done, 100, listeners, CPU, torch.float32)

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    with folder.progress:
        yield folder


def take(watch: Watch, step: int, loss: float = 1.0, norm: float = 1.0) -> None:
    watch.step(step, {"loss": torch.tensor(loss), "grad_norm": torch.tensor(norm)}, 0.1, tokens=10, flops=1e6)


def test_a_stage_from_its_beginning_to_its_end(folder):
    with folder.watch() as watch:
        watch.evaluated(0, {"loss": torch.tensor(3.0)})
        watch.begin()
        for step in (1, 2):
            take(watch, step, loss=3.0 - step)
        watch.flush(2)
        watch.evaluated(2, {"loss": torch.tensor(0.5)})
        watch.go_on()
    keys = [{key for key in line if "/" in key} for line in folder.lines]
    train = {"train/loss", "train/grad_norm", "train/learning_rate"}
    assert keys == [{"eval/loss"}, train, train, {"eval/loss"}]
    assert {line["stage"] for line in folder.lines} == {"sft"}
    assert "step 2/100 (2 %) · loss 1.5" in folder.terminal.getvalue()
    assert "step 2: held-out loss 0.5" in folder.terminal.getvalue()
    assert "running" in (folder.path / "report.html").read_text()


def test_an_alert_follows_its_line_and_is_announced_once(folder):
    with folder.watch() as watch:
        for step in range(1, 31):
            take(watch, step, loss=1 / step, norm=50.0 if step in (25, 27) else 1.0)
        watch.flush(30)
    order = [(line["step"], line.get("alert")) for line in folder.lines][23:29]
    assert order == [(24, None), (25, None), (25, "gradient_spike"), (26, None), (27, None), (27, "gradient_spike")]
    assert [line["count"] for line in folder.lines if "alert" in line] == [1, 2]
    assert folder.terminal.getvalue().count("alert at step") == 1


def test_divergence_is_on_record_before_it_ends_the_stage(folder):
    with suppress(DivergenceError), folder.watch() as watch:
        take(watch, 1, loss=math.nan)
        watch.flush(1)
        pytest.fail("the flush raises")
    assert [line.get("alert") for line in folder.lines] == [None, "not_finite"]
    assert "diverged" in (folder.path / "report.html").read_text()


def test_a_resumed_stage_counts_on(folder):
    """The rules of alerts know what the earlier process saw."""
    with suppress(Interrupted), folder.watch() as watch:
        for step in range(1, 26):
            take(watch, step, loss=1 / step, norm=50.0 if step == 25 else 1.0)
        watch.flush(25)
        raise Interrupted
    assert ">interrupted<" in (folder.path / "report.html").read_text()
    with folder.watch(done=25) as watch:
        take(watch, 26, loss=0.01, norm=60.0)
        watch.flush(26)
    assert [line["count"] for line in folder.lines if "alert" in line] == [1, 2]


def test_trackers_are_shown_every_line_but_alerts(folder, monkeypatch):
    books = Books()
    monkeypatch.setattr(module, "TRACKERS", {"wandb": make_tracker(books, "blind")})
    with folder.watch(tracking=Tracking(("wandb",))) as watch:
        for step in range(1, 4):
            take(watch, step, loss=1 / step, norm=0.0)
        watch.flush(3)
    assert [line.get("alert") for line in folder.lines] == [None, None, None, "no_gradient"]
    [run] = books.runs.values()
    assert [step for step, _ in run] == [1, 2, 3]
    assert "wandb: here" in folder.terminal.getvalue()
