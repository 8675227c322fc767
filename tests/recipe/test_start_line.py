"""The first line of a run: at once, of one line, with paths that give way to the width."""

from __future__ import annotations

import subprocess
import sys

import pytest

from burnish.recipe.read import stage_recipe
from burnish.recipe.start_line import start_line

TYPED = """
import sys
sys.modules["torch"] = None  # importing it fails
from burnish.cli.main import main
main(["sft", "--model", "builtin:tiny", "--data", "demos.jsonl"])
"""


def line(width: int | None = None, **settings: object) -> str:
    given = {"model": "builtin:tiny", "data": "demos.jsonl", **settings}
    return start_line(stage_recipe("sft", given, output=str(settings.pop("output", "runs/sft"))), width)


def test_what_begins():
    text = line()
    assert text.startswith("burnish ")
    assert text.endswith(": sft of builtin:tiny on demos.jsonl → runs/sft")


def test_several_data_sets():
    assert "on a.jsonl, b.jsonl →" in line(data=["a.jsonl", "b.jsonl"])
    assert "on a.jsonl and 2 more →" in line(data=["a.jsonl", {"path": "b.jsonl", "weight": 2.0}, "c.jsonl"])


@pytest.mark.parametrize("width", [80, 100, 200])
def test_long_paths_are_shortened_in_their_middle(width):
    folder = "/a/very/long/folder/of/models/and/data/" * 3
    text = line(width, model=f"{folder}model-1234567", data=f"{folder}train-7654321.jsonl")
    assert len(text) <= width
    assert text.count("…") == 2
    assert "567 on /a/" in text
    assert text.endswith("jsonl → runs/sft")


def test_it_is_printed_before_anything_heavy_is_imported():
    done = subprocess.run([sys.executable, "-c", TYPED], capture_output=True, text=True, check=False)
    first, *rest = done.stderr.splitlines()
    assert first.endswith("sft of builtin:tiny on demos.jsonl → runs/sft")
    assert "import of torch halted" in rest[-1]
