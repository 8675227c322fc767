"""Model cards: what the hub reads, what people read, and what stays on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import app
from burnish.export.card import card, shortened
from burnish.export.write import write_model
from burnish.model.open import ModelRef
from burnish.runs.facts import read_facts
from tests.adapters import be_offline


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an adapter."""
    folder = tmp_path_factory.mktemp("card")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    (folder / "model" / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    write_rows(folder / "rows.jsonl", generate(seed=1, count=40))
    files = {
        "model": str(folder / "model"),
        "data": str(folder / "rows.jsonl"),
        "eval_data": str(folder / "rows.jsonl"),
    }
    adapter = {"kind": "lora", "rank": 2}
    return burnish.sft(**files, output=str(folder / "run"), adapter=adapter, max_steps=3).folder


def front(text: str) -> dict[str, object]:
    front: dict[str, object] = yaml.safe_load(text.split("---\n")[1])
    return front


def export(run: Path, output: Path, form: str) -> None:
    """By the command, which names a run."""
    done = CliRunner().invoke(app, ["export", str(run), "--output", str(output), "--form", form])
    assert done.exit_code == 0, done.output


def test_a_run_tells_its_recipe_data_and_figures(run):
    facts = read_facts(str(run))
    assert facts is not None
    assert facts.methods == ("sft",)
    assert facts.recipe == (run / "recipe.yaml").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["eval/loss"] for line in lines if "eval/loss" in line]
    assert ("eval/loss", losses[0], losses[-1]) in facts.metrics
    assert {name for name, _, _ in facts.metrics} == {"eval/loss", "train/loss"}
    assert facts.data == (next(line for line in facts.data if line.endswith("longest 56") or ": 40 rows" in line),)


@pytest.mark.parametrize(("form", "library"), [("merged", "transformers"), ("adapter", "peft")])
def test_the_card_of_a_run(run, tmp_path, form, library):
    export(run, tmp_path / "mine", form)
    text = (tmp_path / "mine" / "README.md").read_text()
    assert front(text)["library_name"] == library
    assert front(text)["license"] == "mit"
    assert {"burnish", "sft"} <= set(front(text)["tags"])
    assert text.split("---\n")[2].startswith("\n# mine\n")
    for part in (
        "40 rows (question_answer)",
        "| `eval/loss` |",
        "adapter:\n  kind: lora  # command line",
        "verified on",
    ):
        assert part in text
    assert str(run.parent) not in text, "a card is for strangers"
    assert "What is" not in text.split("## Data")[1], "no row of the data"


def test_the_card_of_a_model_without_a_run(run, tmp_path):
    write_model(str(run.parent / "model"), tmp_path / "copy")
    text = (tmp_path / "copy" / "README.md").read_text()
    assert "## Recipe" not in text
    assert "base_model" not in front(text)


def test_a_hub_name_is_the_base_model(monkeypatch):
    be_offline(monkeypatch)
    named = ModelRef("owner/name", "owner/name", "model", None)
    text = card("mine", named, None, form="merged", dtype="bfloat16", checked="fine")
    assert front(text)["base_model"] == "owner/name"
    assert "https://huggingface.co/owner/name" in text


def test_the_code_in_a_card_runs(run, tmp_path):
    for form in ("merged", "adapter"):
        export(run, tmp_path / form, form)
        code = (tmp_path / form / "README.md").read_text().split("```python\n")[1].split("```")[0]
        short = "generate(**inputs, max_new_tokens=2)"
        exec(code.replace('"..."', repr(str(tmp_path / form))).replace("generate(**inputs)", short), {})


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("model: /home/me/models/base  # given", "model: …/base  # given"),
        ("data: ~/rows.jsonl", "data: …/rows.jsonl"),
        ("data: ../a/b c.jsonl#5", "data: …/b c.jsonl#5"),
        ("model: owner/name", "model: owner/name"),
        ("see https://host/a/b", "see https://host/a/b"),
        ("steps 6/60", "steps 6/60"),
    ],
)
def test_paths_are_shortened(text, short):
    assert shortened(text) == short


def test_a_run_folder_that_moved_has_its_card(run, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere")
    assert read_facts(str(tmp_path / "elsewhere")) == read_facts(str(run)) is not None
