"""Typed keyword arguments: the types are those of the settings, and mypy checks a project that uses them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scripts import typed_settings

RIGHT = """
    import burnish
    from burnish.types import LossOutput, Microbatch, TokenScores

    def loss(scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        raise NotImplementedError

    rows = [{"question": "a", "answer": "b"}]
    result = burnish.sft(model="m", data=rows, epochs=2.0, adapter={"kind": "lora", "rank": 8}, loss=loss)
    result = burnish.prefer(model=result, data="pairs.jsonl", loss={"dpo": 1.0, "sft": 0.1}, optimizer="muon")
    result = burnish.rl(model=result, data="q.jsonl", reward=["math", len], schedule={"kind": "wsd"}, fresh=True)
    steps: int = result.steps
"""
WRONG = {
    'burnish.sft(model="m", data="d", learning_rat=1.0)': "learning_rat",
    'burnish.sft(model="m", data="d", epochs="two")': "epochs",
    'burnish.sft(model="m", data="d", adapter={"kind": "lora", "rnk": 8})': "adapter",
    'burnish.rl(model="m", data="d")': "reward",
    'burnish.sft(model="m", data="d", overlong="cut")': "overlong",
}


def test_the_types_are_those_of_the_settings():
    """`python scripts/typed_settings.py` writes them."""
    assert typed_settings.FILE.read_text(encoding="utf-8") == typed_settings.formatted()


@pytest.mark.slow
def test_mypy_checks_a_project(tmp_path):
    (tmp_path / "right.py").write_text(textwrap.dedent(RIGHT))
    (tmp_path / "wrong.py").write_text("import burnish\n" + "\n".join(WRONG) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "right.py", "wrong.py"]
    settings = [
        "--config-file",
        str(Path(__file__).parents[2] / "pyproject.toml"),
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    done = subprocess.run([*command, *settings], cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert not [line for line in errors if line.startswith("right.py")], done.stdout
    for number, word in enumerate(WRONG.values(), start=2):
        assert any(line.startswith(f"wrong.py:{number}:") and word in line for line in errors), done.stdout
