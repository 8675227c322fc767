"""The settings of the data stage reach the data, and what is left out is listed in the run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.builtin.tiny import write_untrained
from burnish.errors import DataError
from burnish.recipe.read import stage_recipe
from burnish.stages.run import run


def ask(question: str, answer: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_untrained(tmp_path / "model", hidden_size=32, layers=1)
    rows = [ask("What?", "This."), ask("And <|end|> now?", "That."), ask("Broken", 7)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def trained(world: Path, *settings: str) -> Path:
    flags = {"model": str(world / "model"), "data": str(world / "rows.jsonl"), "max_steps": 1}
    return run(stage_recipe("sft", flags, settings, str(world / "run"))).folder


def test_unusable_rows_are_listed(world: Path) -> None:
    folder = trained(world, "max_invalid_fraction=0.5", "train_on=last", "special_tokens_in_text=text")
    (row,) = [json.loads(line) for line in (folder / "unusable.jsonl").read_text().splitlines()]
    assert row["where"].endswith("rows.jsonl line 3")
    assert "messages[1]" in row["given"]
    log = (folder / "log.txt").read_text()
    assert "1 rows cannot be used and were left out" in log
    assert "1 groups have text of control tokens, kept as ordinary text" in log


def test_too_many_stop_the_run(world: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 3 rows cannot be used, more than max_invalid_fraction=0\.2 allows"):
        trained(world, "max_invalid_fraction=0.2")


def test_template_options_reach_the_template(world: Path) -> None:
    (world / "t.jinja").write_text(
        "{% for m in messages %}{{ mood }}{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}{{ mood }}{% endif %}"
    )
    (world / "rows.jsonl").write_text(json.dumps(ask("a", "b")) + "\n")
    folder = trained(world, f"chat_template={world / 't.jinja'}", "chat_template_kwargs.mood=happy")
    assert "happya<|end|>happy⟦b<|end|>⟧" in (folder / "log.txt").read_text()
