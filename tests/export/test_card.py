"""Model cards: what the hub reads, what people read, and what stays on this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import app
from burnish.export.card import RunFacts, card, shortened
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


def test_the_model_of_a_run_has_no_card_to_fill_in(run):
    """peft writes one; `burnish export` writes the card of the run."""
    assert (run / "model" / "adapter_config.json").is_file()
    assert not (run / "model" / "README.md").exists()


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


def links(text: str) -> list[str]:
    """Targets of a text's links."""
    return re.findall(r"\]\(([^)]+)\)", text)


def test_links_of_a_card_lead_to_the_hub_or_to_files_of_the_folder(run, tmp_path):
    export(run, tmp_path / "mine", "adapter")
    text = (tmp_path / "mine" / "README.md").read_text()
    assert all(
        link.startswith("https://huggingface.co/") or (tmp_path / "mine" / link).is_file() for link in links(text)
    )
    named = ModelRef("owner/name", "owner/name", "model", None)
    assert links(card("mine", named, None, form="merged", dtype="bfloat16", checked="fine")) == [
        "https://huggingface.co/owner/name"
    ]


def test_the_base_of_a_run_on_a_run_is_the_first_model(run, tmp_path):
    """Methods of both runs are told, in their order; the runs folder and its model are both names of the first run."""
    for name, model in (("by-folder", run), ("by-model", run / "model")):
        adapter = {"kind": "lora", "rank": 2}
        pairs = run.parent / "pairs.jsonl"
        write_rows(pairs, [{"prompt": "a b", "chosen": " c", "rejected": " d"}] * 8)
        done = burnish.prefer(
            model=str(model), data=str(pairs), output=str(tmp_path / name), adapter=adapter, max_steps=1
        )
        facts = read_facts(str(done.folder))
        assert facts is not None
        assert (facts.methods, facts.model) == (("sft", "prefer"), str(run.parent / "model"))


def test_the_base_that_the_card_of_the_base_names_is_told(tmp_path, monkeypatch):
    be_offline(monkeypatch)
    write_untrained(tmp_path / "merged", hidden_size=32, layers=1)
    (tmp_path / "merged" / "README.md").write_text("---\nbase_model: owner/name\nlicense: mit\n---\n")
    named = ModelRef("merged", str(tmp_path / "merged"), "model", None)
    facts = RunFacts(("sft",), str(tmp_path / "merged"), "model: x\n", (), ())
    text = card("mine", named, facts, form="merged", dtype="float32", checked="fine")
    assert front(text) | {"base_model": "owner/name", "base_model_relation": "finetune", "license": "mit"} == front(
        text
    )
    assert "`…/merged` (made from [owner/name](https://huggingface.co/owner/name)) by supervised fine-tuning" in text


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_the_code_in_a_card_runs_as_it_is_printed(run, tmp_path, form):
    """In the folder of the card, in a process of its own."""
    export(run, tmp_path / form, form)
    ran = run_code((tmp_path / form / "README.md").read_text(), tmp_path / form)
    assert ran.returncode == 0, ran.stderr


def test_the_code_of_a_model_without_a_template_runs(tmp_path):
    write_untrained(tmp_path / "base", hidden_size=32, layers=1)
    (tmp_path / "base" / "chat_template.jinja").unlink()
    write_model(str(tmp_path / "base"), tmp_path / "copy")
    text = (tmp_path / "copy" / "README.md").read_text()
    assert "apply_chat_template" not in text
    ran = run_code(text, tmp_path / "copy")
    assert ran.returncode == 0, ran.stderr


def run_code(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the example code of a card in a folder."""
    code = text.split("```python\n")[1].split("```", maxsplit=1)[0]
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


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
