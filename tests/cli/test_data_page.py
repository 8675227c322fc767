"""docs/data.md: the files of its examples are written as printed, and commands that read them show what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
[FILES] = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
WRITTEN = re.findall(r"^cat > (\S+) ", FILES, re.MULTILINE)
BLOCKS = [
    block
    for block in re.findall(r"^```console\n(\$ burnish .*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    if any(name in block.partition("\n")[0].split() for name in WRITTEN)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    subprocess.run(["sh", "-e", "-c", FILES], cwd=tmp_path, check=True)
    return tmp_path


def test_all_files_are_used() -> None:
    assert {name for block in BLOCKS for name in WRITTEN if name in block} >= {*WRITTEN} - {"own.py"}
    assert len(BLOCKS) > 6


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=[block.partition("\n")[0] for block in BLOCKS])
def test_a_command_shows_what_the_page_shows(block: str, folder: Path) -> None:
    """Its lines in their order; … stands for further ones."""
    command, *shown = block.rstrip("\n").split("\n")
    words = [sys.executable, "-u", "-m", *command.removeprefix("$ ").split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    lines = done.stdout.splitlines()
    positions = [lines.index(line) for line in shown if line != "…"]
    assert positions == sorted(positions)
