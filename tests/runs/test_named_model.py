"""A run folder named as a model: its model if it is finished, and its facts for the card."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from burnish.errors import ModelError
from burnish.runs.facts import read_facts
from burnish.runs.named_model import find_run, resolve_model


def make_run(folder: Path, *files: str) -> Path:
    """A run folder as `runs.folder` leaves it, with some of its files."""
    (folder / "model").mkdir(parents=True)
    for name in ("identity.json", *files):
        (folder / name).write_text("{}")
    return folder


def test_a_finished_run_is_its_model(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", "finished.json")
    assert find_run(str(run)) == run
    assert resolve_model(str(run)) == str(run / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("run", "./run/", "~/run", os.path.join("..", tmp_path.name, "run")):
        assert resolve_model(name) == str(run / "model")


def test_another_name_stays_as_it_is(tmp_path):
    for name in ("owner/name", str(tmp_path), str(tmp_path / "nothing"), "builtin:tiny"):
        assert resolve_model(name) == name
        assert find_run(name) is None
        assert read_facts(name) is None


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not finished"):
        resolve_model(str(make_run(tmp_path / "run")))
    run = make_run(tmp_path / "without a model", "finished.json")
    (run / "model").rmdir()
    with pytest.raises(ModelError, match="not finished"):
        resolve_model(str(run))
