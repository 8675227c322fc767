"""`burnish data convert` as a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from burnish.cli.main import main

Write = Callable[..., str]


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ending:
        main(["data", "convert", *arguments])
    return int(ending.value.code or 0)


def test_a_table_becomes_conversations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("problem,solution,id\n2+2?,4,1\n3+3?,6,2\n")
    output = tmp_path / "out.jsonl"
    assert command(str(tmp_path / "a.csv"), "--output", str(output), "count=1", "seed=1") == 0
    (row,) = map(json.loads, output.read_text().splitlines())
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    said = capsys.readouterr().out
    assert "1 rows of the format question_answer; columns without use: id" in said
    assert f"{output}: 1 rows" in said


def test_rows_that_cannot_be_used_are_named(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = write({"question": "a", "answer": "b"}, {"question": "a"}), str(tmp_path / "out.jsonl")
    assert command(path, "--output", output) == 2
    assert f"{path} line 2: answer is missing" in capsys.readouterr().err
    assert command(path, "--output", output, "max_invalid_fraction=0.5") == 0
    said = capsys.readouterr().out
    assert f"left out: {path} line 2: answer is missing" in said
    assert f"{output}: 1 rows, 1 left out" in said


def test_mistakes_end_with_status_2(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = write({"question": "a", "answer": "b"}), str(tmp_path / "out.jsonl")
    assert command(path, "--output", output, "--format", "chta") == 2
    assert "did you mean chat?" in capsys.readouterr().err
    assert command(path, "--output", output, "cuont=3") == 2
    assert "did you mean count?" in capsys.readouterr().err
    assert not Path(output).exists()
