"""`burnish quickstart` and `burnish report`: what is shown, what is left behind, and again. Cut to a few steps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml

from burnish.cli.main import main
from burnish.cli.quickstart import RECIPE
from burnish.recipe.json_schema import json_schema
from burnish.runs.folder import RunFolder

SHORT = ["sft.epochs=null", "sft.max_steps=2", "sft.data=builtin:chat#40", "sft.eval_data=builtin:chat/test#6"]
SHORT += ["sft.eval_every=null", "sft.evaluation.generations=3", "sft.evaluation.max_new_tokens=4"]
SHORT += ["prefer.max_steps=1", "prefer.data=builtin:preferences#20", "prefer.eval_data=builtin:preferences/test#4"]
SHORT += ["prefer.evaluation.generations=3", "prefer.evaluation.max_new_tokens=4"]
SHORT += ["rl.max_steps=1", "rl.data=builtin:math#10", "rl.eval_data=builtin:math/test#4", "rl.groups_per_step=2"]
SHORT += ["rl.responses_per_prompt=2", "rl.max_new_tokens=4", "rl.evaluation.prompts=3", "rl.reward_workers=1"]


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that ends well writes to the standard output."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_recipe_is_printed_and_right(capsys: pytest.CaptureFixture[str]) -> None:
    text = typed(capsys, "quickstart", "--print")
    assert text == RECIPE.read_text()
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(text))


def test_before_and_after_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(typer, "launch", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("burnish.verbs.retention.QUESTIONS", 12)
    monkeypatch.setattr("burnish.verbs.retention._LONGEST", 4)
    shown = typed(capsys, "quickstart", *SHORT)
    lines = [json.loads(line) for line in Path("runs/quickstart/samples.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "sft"] == [0, 0, 0, 2, 2, 2]
    for stage in ("prefer", "rl"):
        asked = [line for line in lines if line["stage"] == stage and "index" in line]
        assert [line["step"] for line in asked] == [0, 0, 0, 1, 1, 1]
    words = " ".join(shown.replace("│", " ").split())
    for line in (line for line in lines if "index" in line):
        assert line["prompt"].split()[0] in words
    for told in ("before", "after", "Held-out loss: ", "Accuracy: 0 % before", "runs/quickstart/report.html"):
        assert told in words
    assert "Held-out reward: 0 before" in words
    assert "12 questions of builtin:chat/test after each stage" in words
    table = [line for line in shown.splitlines() if "│" in line and "%" in line]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table]
    assert [row[0] for row in rows] == ["sft", "prefer", "rl"]
    assert all(re.fullmatch(r"\d+%", share) for row in rows for share in row[1:])
    assert "chat runs/quickstart" in shown
    assert opened == [], "there is no terminal"
    again = typed(capsys, "quickstart", *SHORT)
    assert again.startswith("runs/quickstart is finished already")
    assert again.partition("\n")[2] == shown
    assert "finished" in Path("runs/quickstart/report.html").read_text()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    typed(capsys, "quickstart", "--no-open", *SHORT)
    assert opened == []
    typed(capsys, "quickstart", *SHORT)
    assert opened == [Path("runs/quickstart/report.html").absolute().as_uri()]
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    typed(capsys, "quickstart", *SHORT)
    assert len(opened) == 1, "there is no screen"


def test_a_report_is_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with RunFolder.open(folder, "model: x\n", {}) as run:
        run.append_metrics([{"stage": "sft", "step": 1, "train/loss": 1.0}])
        assert typed(capsys, "report", str(folder)) == f"{folder / 'report.html'}\n"
        assert ">running<" in (folder / "report.html").read_text()
    typed(capsys, "report", str(folder))
    assert ">interrupted<" in (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["report", str(folder)])
    assert ended.value.code == 2
    assert "cannot be written" in capsys.readouterr().err
