"""A run of two processes: the weights of one process's run, and a folder that only the main one writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import burnish.stages.kind
import burnish.stages.run
from burnish.errors import Interrupted, RunError
from burnish.model.policy import Model
from burnish.parallel.world import World
from burnish.recipe.read import read_recipe
from burnish.runs.folder import RunFolder
from burnish.runs.lock import is_locked
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.stages.determinism import repeatable
from burnish.stages.result import RunResult
from burnish.watch import tracking
from burnish.watch.progress import open_progress
from burnish.watch.tracking import Tracking
from burnish.watch.watch import Sinks, Watch
from tests.parallel.threads import in_world
from tests.stages.small import write_world
from tests.watch.test_tracking import Books, make_tracker

STEPS = 3
TIMES = {"wall_time_s", "tokens_per_second", "seconds_per_step", "mfu", "memory_gib"}
"""Metrics that differ from run to run."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def one_loads_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading sets switches of transformers that threads share, and processes do not."""
    lock, load = Lock(), burnish.stages.kind.load_models

    def load_alone(*arguments: Any) -> dict[str, Model]:
        with lock:
            return load(*arguments)

    monkeypatch.setattr(burnish.stages.kind, "load_models", load_alone)


def recipe_file(rows: Path, output: Path) -> Path:
    """A recipe of two stages."""
    common = {"max_steps": STEPS, "tokens_per_microbatch": 300, "learning_rate": 1e-3, "checkpoint_every": 2}
    sft = {"data": str(rows / "train.jsonl"), "eval_data": str(rows / "test.jsonl"), **common}
    pairs = {"data": str(rows / "pairs.jsonl"), "eval_data": str(rows / "pairs-test.jsonl"), **common}
    stages = [{"sft": sft}, {"prefer": {**pairs, "loss": "simpo"}}]
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"model": str(rows / "model"), "output": str(output), "stages": stages}))
    return path


def run_together(path: Path) -> list[RunResult]:
    with repeatable(0, only_deterministic=False):  # the threads share the settings that it restores
        return in_world(2, lambda world: burnish.stages.run.run(read_recipe(path), world))


def written(folder: Path) -> list[Mapping[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def assert_same_run(found: Path, expected: Path) -> None:
    """Weights up to float32's rounding, lines of metrics one for one."""
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (found, expected))
    start = load_file(expected / "stages" / "sft" / "model" / "model.safetensors")
    for name, weight in other.items():
        moved = float((weight - start[name]).abs().max())
        assert float((one[name] - weight).abs().max()) < 0.02 * moved, name
    for line, usual in zip(written(found), written(expected), strict=True):
        assert {**line, "stage": 0} == pytest.approx({**usual, "stage": 0}, rel=1e-3)
        assert line["stage"] == usual["stage"]


@pytest.fixture(scope="module")
def alone(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone") / "run"
    burnish.stages.run.run(read_recipe(recipe_file(rows, output)))
    return output


def test_a_run_of_two_is_that_of_one(
    rows: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run_together(recipe_file(rows, tmp_path / "run"))
    assert results[0] == results[1]
    assert results[0].steps == 2 * STEPS
    assert_same_run(tmp_path / "run", alone)
    assert not is_locked(tmp_path / "run" / ".lock")
    said = [line[20:] for line in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8").splitlines()]
    assert said.count("stage sft") == said.count("stage prefer") == 1
    assert capsys.readouterr().err.count("finished: the model is in") == 1
    again = run_together(recipe_file(rows, tmp_path / "run"))
    assert all(result.again and result.summary == results[0].summary for result in again)


class StopsLater(StopSignal):
    """The signal comes to the second process alone, after two steps of the first stage."""

    read = 0

    @property
    def requested(self) -> bool:
        self.read += 1
        self._requested = self._world.rank == 1 and self.read == 1 + 2
        return super().requested


def test_all_stop_where_one_is_asked_to_and_go_on(
    rows: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_file(rows, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(burnish.stages.run, "StopSignal", StopsLater)
        with pytest.raises(Interrupted, match="stopped after step 2 of 3"):
            run_together(recipe)
    run_together(recipe)
    assert_same_run(tmp_path / "run", alone)
    assert "resuming from step 2" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")


def test_the_main_process_alone_writes_lines_and_files(tmp_path: Path) -> None:
    def write(world: World) -> list[str]:
        calls: list[str] = []
        with RunFolder.open(tmp_path / "run", "recipe", {"seed": 1}, world) as run:
            stage = StageFolder.one_of_several(run, "sft", {}, is_last=False)
            run.append_metrics([{"rank": world.rank}])
            stage.append_samples([{"rank": world.rank}])
            stage.write_model(lambda folder: calls.append(str((folder / "w").write_text(str(world.rank)))))
            assert (stage.model / "w").read_text() == "0", "it is there for the others"
            stage.mark_finished({"steps": 1})
            done = stage.finished
            assert done is not None
            assert done.offsets == {"metrics.jsonl": 12, "samples.jsonl": 12}
            run.cut({"metrics.jsonl": 0, "samples.jsonl": 12})
            assert (run.path / "metrics.jsonl").read_text() == ""
            run.mark_finished({"rank": world.rank})
            assert run.finished == {"rank": 0}
        return calls

    assert in_world(2, write) == [["1"], []]
    assert (tmp_path / "run" / "samples.jsonl").read_text() == '{"rank": 0}\n'


def test_other_processes_ask_for_no_lock(tmp_path: Path) -> None:
    """The folder is in use: the main process is refused, and the others do not go on without it."""
    with RunFolder.open(tmp_path, "recipe", {}), pytest.raises(RunError, match="in use"):
        in_world(2, lambda world: RunFolder.open(tmp_path, "recipe", {}, world))


def test_the_main_process_alone_speaks_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the terminal, the log, metrics.jsonl and a tracker."""
    books = Books()
    monkeypatch.setattr(tracking, "TRACKERS", {"wandb": make_tracker(books, "blind")})

    def speak(world: World) -> None:
        with (
            RunFolder.open(tmp_path, "model: tiny", {}, world) as run,
            open_progress(tmp_path / "log.txt", is_main=world.is_main) as progress,
        ):
            sinks = Sinks(run.path, run.append_metrics, progress, Tracking(("wandb",)), world.is_main)
            with Watch("sft", 0, 1, sinks, torch.device("cpu"), torch.float32) as watch:
                watch.step(1, {"loss": torch.tensor(float(world.rank))}, 0.1, tokens=10, flops=1e6)
                watch.flush(1)
                progress.say(f"rank {world.rank}")

    in_world(2, speak)
    assert "rank 1" not in capsys.readouterr().err
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert text.count("rank 0") == text.count("step 1/1") == 1
    assert "rank 1" not in text
    assert [line["train/loss"] for line in written(tmp_path)] == [0.0]
    assert len(books.runs) == 1


@pytest.mark.parametrize("is_main", [True, False])
def test_the_main_process_alone_writes_the_report(tmp_path: Path, is_main: bool) -> None:
    with open_progress(tmp_path / "log.txt", is_main=is_main) as progress:
        Sinks(tmp_path, lambda lines: None, progress, is_main=is_main).report("running")
    assert {path.name for path in tmp_path.iterdir()} == ({"log.txt", "report.html"} if is_main else set())
