"""What trackers are shown: every line once, whatever was killed, and the past to those that come late."""

from __future__ import annotations

import importlib.machinery
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.errors import RecipeError
from burnish.watch import tracking as module
from burnish.watch.journal_lines import MetricsLine
from burnish.watch.tracking import NO_TRACKERS, Tracking, require_installed


class Books:
    """What some tracker's program has on record, over all processes: run → lines."""

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[int, float]]] = {}


def make_tracker(books: Books, kind: str):
    """A tracker that remembers nothing, knows its own books, or forgets as TensorBoard does."""

    class Fake:
        place = "here"

        def __init__(self, opening) -> None:
            self._lines = books.runs.setdefault(opening.id, [])
            if kind == "forgets":
                del self._lines[opening.past :]
            self.seen = {"knows": len(self._lines), "forgets": opening.past, "blind": opening.seen}[kind]
            self.seen = min(self.seen, len(self._lines))
            self.closed: bool | None = None

        def log(self, step, metrics):
            self._lines.append((step, metrics["train/loss"]))

        def close(self, failed):
            self.closed = failed

    return Fake


def line(step: int) -> MetricsLine:
    return MetricsLine("sft", step, {"train/loss": 0.5**step})


@pytest.mark.parametrize("kind", ["knows", "forgets", "blind"])
@given(kills=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 6)), max_size=4), flush=st.integers(1, 5))
@settings(max_examples=30)
def test_every_line_is_shown_once(tmp_path_factory, kind, kills, flush):
    """Each kill comes some lines after a checkpoint; the next process goes on from it."""
    folder, books = tmp_path_factory.mktemp("run"), Books()
    record = [line(step) for step in range(1, 17)]
    done = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRACKERS", {"wandb": make_tracker(books, kind)})
        tracking = Tracking(("wandb",))
        for checkpoint, lost in kills:
            trackers = tracking.open(folder, "sft", done, record[:done])
            show(trackers, record[done : max(done, checkpoint) + lost], flush)
            done = max(done, checkpoint)
        trackers = tracking.open(folder, "sft", done, record[:done])
        show(trackers, record[done:], flush)
        trackers.close(failed=False)
    last = json.loads((folder / "trackers.json").read_text())["sft"]["wandb"]["id"]
    assert books.runs[last] == [(entry.step, entry.metrics["train/loss"]) for entry in record]


def show(trackers, lines, flush: int) -> None:
    for start in range(0, len(lines), flush):
        trackers.write(lines[start : start + flush])


def test_one_that_comes_late_is_shown_the_past(tmp_path, monkeypatch):
    early, late = Books(), Books()
    trackers = {"wandb": make_tracker(early, "blind"), "trackio": make_tracker(late, "blind")}
    monkeypatch.setattr(module, "TRACKERS", trackers)
    Tracking(("wandb",)).open(tmp_path, "sft", 0, []).write([line(1), line(2)])
    opened = Tracking(("wandb", "trackio")).open(tmp_path, "sft", 2, [line(1), line(2)])
    opened.write([line(3)])
    assert [*early.runs.values()] == [*late.runs.values()] == [[(1, 0.5), (2, 0.25), (3, 0.125)]]
    assert opened.places == ["wandb: here", "trackio: here"]


def test_a_run_that_begins_anew_is_another_one(tmp_path, monkeypatch):
    books = Books()
    monkeypatch.setattr(module, "TRACKERS", {"wandb": make_tracker(books, "blind")})
    for _ in range(2):
        Tracking(("wandb",)).open(tmp_path, "sft", 0, []).write([line(1)])
    assert [*books.runs.values()] == [[(1, 0.5)], [(1, 0.5)]]


def test_each_stage_has_its_own(tmp_path, monkeypatch):
    books = Books()
    monkeypatch.setattr(module, "TRACKERS", {"wandb": make_tracker(books, "blind")})
    Tracking(("wandb",)).open(tmp_path, "sft", 0, []).write([line(1)])
    dpo = MetricsLine("dpo", 1, {"train/loss": 7.0})
    Tracking(("wandb",)).open(tmp_path, "dpo", 1, [line(1), dpo]).write([replace(dpo, step=2)])
    assert [*books.runs.values()] == [[(1, 0.5)], [(1, 7.0), (2, 7.0)]]


def test_without_trackers_nothing_is_written(tmp_path):
    trackers = NO_TRACKERS.open(tmp_path, "sft", 0, [])
    trackers.write([line(1)])
    trackers.close(failed=False)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_reported_with_its_extra(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'burnish\[trackio\]'"):
        require_installed(("trackio",))
    require_installed(())


def test_a_folder_of_that_name_is_no_package(monkeypatch):
    """W&B makes a folder called wandb, which Python would import as an empty package."""
    empty = importlib.machinery.ModuleSpec("wandb", loader=None)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: empty)
    with pytest.raises(RecipeError, match="wandb"):
        require_installed(("wandb",))
