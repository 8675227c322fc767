"""The real trackers: after a kill and a resume each has every line, and none twice. Skipped where none is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.watch.trackers import TRACKERS

INSTALLED = [name for name in TRACKERS if importlib.util.find_spec(name)]
LOSSES = [(step, 0.5**step) for step in range(1, 13)]
EVALUATIONS = [(0, 2.0), (12, 0.5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder that `tracked.py` leaves behind, nothing of it outside."""
    if not INSTALLED:
        pytest.skip("no tracker is installed")
    folder = tmp_path_factory.mktemp("tracked")
    places = {"WANDB_MODE": "offline", "TRACKIO_DIR": str(folder / "trackio"), "HOME": str(folder)}
    root = Path(__file__).parents[2]
    script = Path(__file__).with_name("tracked.py")
    arguments = [sys.executable, str(script), str(folder), *INSTALLED]
    environment = {**os.environ, **places, "PYTHONPATH": str(root)}
    done = subprocess.run(arguments, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "trackers do not talk into the run's output"
    return folder


def test_tensorboard(folder):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder / "tensorboard" / "sft"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == LOSSES
    assert [(event.step, event.value) for event in events.Scalars("eval/loss")] == EVALUATIONS
    assert set(events.Tags()["scalars"]) == {"train/loss", "eval/loss"}


def test_wandb(folder):
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    [file] = folder.glob("wandb/offline-run-*/*.wandb")
    rows, runs, exits = [], [], []
    for raw in wandb_records(file.read_bytes()):
        record = messages.Record()
        record.ParseFromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.append(items)
        runs += [record.run] if kind == "run" else []
        exits += [record.exit.exit_code] if kind == "exit" else []
    assert [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row] == LOSSES
    assert [(row["step"], row["eval/loss"]) for row in rows if "eval/loss" in row] == EVALUATIONS
    assert [row["_step"] for row in rows] == list(range(len(LOSSES) + len(EVALUATIONS)))
    memory = json.loads((folder / "trackers.json").read_text())
    assert {(run.project, run.display_name, run.run_id) for run in runs} == {
        ("polish", "brass", memory["sft"]["wandb"]["id"])
    }
    assert {item.key: item.value_json for item in runs[0].config.update}["model"] == '"tiny"'
    assert not runs[0].HasField("git")
    assert exits == [0]


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of W&B's file: LevelDB's log format, after seven bytes."""
    block, head, at, whole = 32768, 7, 7, b""
    while at + head <= len(data):
        if block - at % block < head:
            at += block - at % block
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + head])
        whole += data[at + head : at + head + size]
        at += head + size
        if kind in (1, 4):  # whole in one piece, or its last piece
            yield whole
            whole = b""


def test_trackio(folder):
    pytest.importorskip("trackio")
    with sqlite3.connect(folder / "trackio" / "polish.db") as books:
        rows = books.execute("select run_name, step, metrics from metrics order by id").fetchall()
    figures = [(step, json.loads(metrics)) for _, step, metrics in rows]
    assert [(step, row["train/loss"]) for step, row in figures if "train/loss" in row] == LOSSES
    assert [(step, row["eval/loss"]) for step, row in figures if "eval/loss" in row] == EVALUATIONS
    assert {name.rpartition("-")[0] for name, _, _ in rows} == {"brass"}


def test_nothing_stays_outside_the_run_folder(folder):
    """W&B's cache apart, all that is there belongs to the run."""
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names <= {"tensorboard", "wandb", "trackio", "trackers.json"}
