"""The environment of a run, without the names of machine and user."""

from __future__ import annotations

import json
import platform
import sys

import torch

from burnish.watch.environment import environment, write_environment

CPU = torch.device("cpu")


def test_versions_device_threads(tmp_path):
    write_environment(tmp_path, CPU)
    result = json.loads((tmp_path / "environment.json").read_text())
    assert result["versions"]["torch"] == torch.__version__
    assert result["threads"] == torch.get_num_threads()
    assert result["python"] == platform.python_version()
    assert result["device"]
    assert [path.name for path in tmp_path.iterdir()] == ["environment.json"]


def test_the_command_is_as_one_types_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/someone/bin/burnish", "sft", "name=a b"])
    assert environment(CPU)["command"] == "burnish sft 'name=a b'"
    monkeypatch.setattr(sys, "argv", ["/home/someone/burnish/__main__.py", "sft"])
    assert environment(CPU)["command"] == "python -m burnish sft"


def test_it_does_not_name_the_machine():
    name = platform.node()
    shown = json.dumps({**environment(CPU), "command": ""})
    assert not name or name not in shown
