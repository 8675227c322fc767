"""README: its commands and its Python run as they are printed, and it names the command of the tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^<!-- runnable -->\n```(console|python)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[str]:
    """Commands of a console block, each with the lines that it continues on."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)


def test_there_are_blocks_that_run() -> None:
    assert [kind for kind, _ in BLOCKS].count("console") >= 3
    assert all(commands(block) for kind, block in BLOCKS if kind == "console")
    assert [kind for kind, _ in BLOCKS].count("python") == 1


@pytest.mark.slow
def test_everything_runs_as_it_is_printed(tmp_path: Path) -> None:
    """In the order of the page, in one folder, by a shell. The programs are those of this interpreter."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("burnish", "-m burnish"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "BURNISH_CACHE": str(tmp_path / "cache"),
    }
    for kind, block in BLOCKS:
        (folder / "script.py").write_text(block, encoding="utf-8")
        for command in commands(block) if kind == "console" else ["python script.py"]:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert (folder / "merged" / "model.safetensors").is_file()
    assert (folder / "answers.jsonl").read_text(encoding="utf-8").count("\n") == 20


def test_the_command_of_the_tests_is_that_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [command] = re.findall(r"^## Tests\n\n```\nmake (\S+)\n```", README, re.MULTILINE)
    assert re.search(rf"^{command}: install-dev$", makefile, re.MULTILINE)
    assert "make test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert README.count("\n") <= 200
