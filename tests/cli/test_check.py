"""`burnish check` as a command: lines, exit statuses, the file of verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import burnish.checks.cost
import burnish.checks.suite
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import main

TEMPLATE_WITHOUT_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=60))
    (folder / "recipe.yaml").write_text(
        f"model: {folder}/model\nstages:\n  - sft: {{data: {folder}/train.jsonl, max_length: 200}}\n"
    )
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `burnish check`."""
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_a_healthy_recipe_in_a_process_of_its_own(world, tmp_path):
    verdicts = tmp_path / "verdicts.json"
    arguments = ["check", str(world / "recipe.yaml"), "learning_rate=1e-2", "--json", str(verdicts)]
    ended = subprocess.run([sys.executable, "-m", "burnish", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    read = json.loads(verdicts.read_text())
    assert [line["check"] for line in read if line["passed"] is None] == ["begin tokens", "merge"]
    lines = [line for line in ended.stdout.splitlines() if line.startswith(("PASS", "SKIP"))]
    assert len(lines) == len(read) == len(burnish.checks.suite.OF_ROWS) + len(burnish.checks.suite.OF_MODEL)
    assert "8 passed, 0 failed" in ended.stdout
    assert ended.stderr == ""


def test_the_rows_of_every_stage_are_checked(world, tmp_path, capsys, monkeypatch):
    """A later stage's with the template that an earlier one gives its model; laws are tried on the first model."""
    monkeypatch.setattr(burnish.checks.suite, "OF_MODEL", burnish.checks.suite.OF_MODEL[:1])
    stage = f"{{data: {world}/train.jsonl, max_length: 200"
    (tmp_path / "endless.jinja").write_text(TEMPLATE_WITHOUT_END)
    (tmp_path / "r.yaml").write_text(
        f"model: {world}/model\nstages:\n  - sft: {stage}, chat_template: chatml, add_tokens: template}}\n"
        f"  - sft: {stage}}}\n  - sft: {stage}, chat_template: {tmp_path}/endless.jinja}}\n"
    )
    status, out, _ = command(capsys, str(tmp_path / "r.yaml"), "--json", str(tmp_path / "v"))
    assert status == 1
    verdicts = {(line["stage"], line["check"]): line for line in json.loads((tmp_path / "v").read_text())}
    rows = [check.name for check in burnish.checks.suite.OF_ROWS]
    assert list(verdicts) == [(s, c) for s in ("sft", "sft-2", "sft-3") for c in rows] + [("sft", "packed = plain")]
    assert [key for key, line in verdicts.items() if line["passed"] is False] == [("sft-3", "ends of turns")]
    assert "<|im_end|>" in verdicts["sft-2", "ends of turns"]["measured"]
    assert "stage sft, with its model (those of later stages do not exist yet):" in out


def test_a_failed_check_is_status_1_and_says_what_to_do(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(burnish.checks.suite, "OF_MODEL", ())
    (tmp_path / "endless.jinja").write_text(TEMPLATE_WITHOUT_END)
    files = ["--model", str(world / "model"), "--data", str(world / "train.jsonl")]
    status, out, _ = command(
        capsys, *files, f"chat_template={tmp_path / 'endless.jinja'}", "--json", str(tmp_path / "v")
    )
    assert status == 1
    [failed] = [line for line in json.loads((tmp_path / "v").read_text()) if line["passed"] is False]
    assert failed["check"] == "ends of turns"
    assert f"to do: {failed['remedy']}" in out
    assert "FAIL ends of turns" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model and --data"),
        (["--model", "somewhere"], "--model and --data"),
        (["none.yaml"], "none.yaml"),
        (["RECIPE", "learning_rat=1"], "learning_rate"),
        (["RECIPE", "max_length=10"], "overlong=drop"),
    ],
)
def test_a_mistake_is_status_2(world, capsys, arguments, words):
    given = [str(world / "recipe.yaml") if argument == "RECIPE" else argument for argument in arguments]
    status, _, err = command(capsys, *given)
    assert status == 2
    assert words in err
    assert "Traceback" not in err


def test_what_takes_long_begins_only_with_leave(world, capsys, monkeypatch):
    monkeypatch.setattr(burnish.checks.suite, "OF_MODEL", ())
    monkeypatch.setattr(burnish.checks.cost, "SECONDS", 0.0)
    status, out, err = command(capsys, str(world / "recipe.yaml"))
    assert status == 2
    assert "--yes" in err
    assert "parameters" in out, "what it will cost is said"
    assert command(capsys, str(world / "recipe.yaml"), "--yes")[0] == 0


@pytest.mark.parametrize(("reward", "status"), [("number", 0), ("own.py:anything", 1)])
def test_rewards_are_tried_on_known_answers(world, tmp_path, capsys, reward, status):
    (tmp_path / "own.py").write_text("def anything(answer):\n    return 1.0\n")
    (tmp_path / "math.jsonl").write_text(
        "".join(f'{{"question": "{n} + 1 = ?", "answer": "{n + 1}"}}\n' for n in range(9))
    )
    named = reward.replace("own.py", str(tmp_path / "own.py"))
    (tmp_path / "r.yaml").write_text(
        f"model: {world}/model\nstages:\n  - rl: {{data: {tmp_path}/math.jsonl, reward: {named}, max_new_tokens: 8}}\n"
    )
    ended, told, _ = command(capsys, str(tmp_path / "r.yaml"))
    assert ended == status
    assert ("PASS rewards" in told) == (status == 0)
    assert ("an empty answer is graded wrong in 0 of 9 rows" in told) == (status == 1)
