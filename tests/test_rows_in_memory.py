"""Rows in memory through the functions of the package: runs, resuming, changed rows, the recipe of the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

import burnish
from burnish.builtin.sets import builtin_rows, generate
from burnish.builtin.tiny import write_untrained
from burnish.errors import DataError, Interrupted, RunError
from tests.faults.test_kill import figures, weights
from tests.interrupting import interrupted_at

ROWS = [dict(row) for row in generate(seed=1, count=20)]
HELD_OUT = [dict(row) for row in generate(seed=2, count=5)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    write_untrained(folder, hidden_size=32, layers=1)
    return str(folder)


def sft(model: str, output: Path, data: object = ROWS, **settings: Any) -> Path:
    given = {"max_steps": 2, "sequences_per_step": 4, "checkpoint_every": 1, **settings}
    return burnish.sft(model=model, data=data, output=str(output), **given).folder


@pytest.mark.parametrize("make", [list, datasets.Dataset.from_list, pd.DataFrame])
def test_rows_train_as_those_of_a_file(model: str, tmp_path: Path, make: Callable[[Any], object]) -> None:
    file, other = tmp_path / "rows.jsonl", tmp_path / "held.jsonl"
    for path, rows in ((file, ROWS), (other, HELD_OUT)):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    from_memory = sft(model, tmp_path / "memory", make(ROWS), eval_data=make(HELD_OUT))
    from_files = sft(model, tmp_path / "files", str(file), eval_data=str(other))
    assert weights(from_memory) == weights(from_files)
    assert figures(from_memory) == figures(from_files)
    assert "rows in memory: 20 rows" in (from_memory / "log.txt").read_text()


def test_the_same_call_is_the_same_run_and_its_recipe_repeats_it(model: str, tmp_path: Path) -> None:
    first = burnish.sft(model=model, data=ROWS, output=str(tmp_path / "run"), max_steps=2)
    again = burnish.sft(model=model, data=[*ROWS], output=str(tmp_path / "run"), max_steps=2)
    assert not first.again
    assert again.again
    assert not again.unread
    repeated = burnish.run(tmp_path / "run" / "recipe.yaml", f"output={tmp_path / 'repeated'}")
    assert weights(repeated.folder) == weights(first.folder)


def test_changed_rows_are_changed_data(model: str, tmp_path: Path) -> None:
    sft(model, tmp_path / "run")
    with pytest.raises(RunError, match=r"started with other settings:\n.*rows in memory"):
        sft(model, tmp_path / "run", ROWS[:-1])
    with pytest.raises(Interrupted), interrupted_at(1):
        sft(model, tmp_path / "interrupted")
    with pytest.raises(RunError, match=r"started with other settings:\n.*rows in memory"):
        sft(model, tmp_path / "interrupted", ROWS[:-1])
    assert weights(sft(model, tmp_path / "interrupted")) == weights(tmp_path / "run")


def test_a_mixture_a_share_and_prompts_of_their_own(model: str, tmp_path: Path) -> None:
    evaluation = {"generations": 2, "max_new_tokens": 4, "prompts_data": HELD_OUT}
    data = [{"path": ROWS, "weight": 2}, {"path": datasets.Dataset.from_list(HELD_OUT), "name": "others"}]
    folder = sft(model, tmp_path / "run", data, eval_share=0.3, evaluation=evaluation)
    log = (folder / "log.txt").read_text()
    assert "rows in memory: " in log
    assert "others: " in log
    assert "rows-in-memory" not in log
    prompts = {json.loads(line)["prompt"] for line in (folder / "samples.jsonl").read_text().splitlines()}
    assert prompts <= {row["question"] for row in HELD_OUT}


def test_a_row_that_cannot_be_used_is_named_by_its_number(model: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^row 2 of the rows in memory \(counted from 0\): question is a number"):
        sft(model, tmp_path / "run", [*ROWS[:2], {"question": 3, "answer": "4"}])
    with pytest.raises(DataError, match="row 0 of the rows in memory"):
        sft(model, tmp_path / "run", [{"question": {1}, "answer": "4"}])
    assert not (tmp_path / "run").exists()


def test_every_function_takes_rows(model: str, tmp_path: Path) -> None:
    pairs = [dict(row) for row in builtin_rows("preferences", count=8)]
    short = {"max_steps": 1}
    assert burnish.prefer(model=model, data=pairs, output=str(tmp_path / "prefer"), **short).steps == 1
    assert (
        burnish.reward(model=model, data=pairs, output=str(tmp_path / "reward"), add_tokens=["<|pad|>"], **short).steps
        == 1
    )
    graded = {"reward": {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"}, "max_new_tokens": 4}
    assert burnish.rl(model=model, data=ROWS, output=str(tmp_path / "rl"), **graded, **short).steps == 1
    generated = burnish.generate(model=model, data=pd.DataFrame(HELD_OUT), max_new_tokens=2)
    assert [answer["row"] for answer in generated.answers] == list(range(len(HELD_OUT)))
