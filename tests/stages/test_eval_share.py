"""eval_share in every stage: what is evaluated, what is trained, what is told, and that a run resumes exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.data.split import normalized
from burnish.errors import DataError, Interrupted, RecipeError, RunError
from burnish.recipe.read import stage_recipe
from burnish.stages.supervised_data import SupervisedData
from tests.faults.test_kill import figures, weights
from tests.interrupting import interrupted_at
from tests.stages.small import SETTINGS, built, context_of, opened, write_world

SHARE = 0.3
STAGES = ("sft", "prefer", "reward", "rl")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def shared(**changed: object) -> dict[str, object]:
    """Settings of a stage of `small` with a share in place of its held-out data."""
    return {"eval_data": None, "eval_share": SHARE, **changed}


def train(world: Path, output: Path, method: str = "sft", **settings: object) -> Path:
    given = {key: value for key, value in SETTINGS[method].items() if key != "eval_data"}
    given |= {"model": str(world / "model"), "data": str(world / given["data"]), "output": str(output)}
    cadence = {"max_steps": 4, "eval_every": 2, "eval_share": SHARE, "checkpoint_every": 1, "log_every": 1}
    run: Any = getattr(burnish, method)
    return run(**{**given, **cadence, **settings}).folder


def prompts_of(method: str, data: Any) -> tuple[list[str], list[str]]:
    """Prompts of the training and of the held-out rows, decoded and normalized."""
    tokenizer = data.context.reader.tokenizer
    if method == "rl":
        sides = [[prompt.tokens for prompt in side.tokenized] for side in (data.train, data.held_out)]
    else:
        assert isinstance(data, SupervisedData)
        sides = [[group.prompt for group in side] for side in (data.feed.whole(), data.held_out.groups)]
    trained, held = ([normalized(tokenizer.decode(tokens.tolist())) for tokens in side] for side in sides)
    return trained, held


@pytest.mark.parametrize("method", STAGES)
def test_every_stage_trains_on_other_prompts_than_it_evaluates_on(world: Path, method: str) -> None:
    context = context_of(world, method, **shared())
    with opened(context) as data:
        trained, held = prompts_of(method, data)
        assert trained
        assert held
        assert not set(trained) & set(held)
        lines = [line for line in data.report() if line.startswith("held out: ")]
        assert len(lines) == 1
        assert f"of {len(trained) + len(held)} rows (eval_share {SHARE})" in lines[0]
        assert f"{len(set(held))} prompts" in lines[0]
        assert "also trained" not in "\n".join([*data.report(), *data.lines()])


def test_a_run_evaluates_exactly_on_the_held_out_rows(world: Path, tmp_path: Path) -> None:
    """The held-out loss before training is that of `burnish eval` on the rows that were taken out."""
    with opened(context_of(world, "sft", **shared())) as data:
        indices = data.held_out.opened.data.rows.indices.tolist()
        rows = (world / "train.jsonl").read_text().splitlines()
        held, others = tmp_path / "held.jsonl", tmp_path / "others.jsonl"
        held.write_text("".join(rows[at] + "\n" for at in indices))
        others.write_text("".join(row + "\n" for at, row in enumerate(rows) if at not in set(indices)))
    folder = train(world, tmp_path / "run")
    apart = train(world, tmp_path / "apart", data=str(others), eval_data=str(held), eval_share=None)
    assert weights(folder) == weights(apart)
    assert figures(folder) == figures(apart)
    log = (folder / "log.txt").read_text()
    assert f"held out: {len(indices)} of {len(rows)} rows (eval_share {SHARE})" in log


def test_a_run_resumes_exactly_and_only_with_its_share(world: Path, tmp_path: Path) -> None:
    whole = train(world, tmp_path / "whole")
    with pytest.raises(Interrupted), interrupted_at(2):
        train(world, tmp_path / "parts")
    train(world, tmp_path / "parts")
    assert weights(whole) == weights(tmp_path / "parts")
    with pytest.raises(RunError, match="eval_share"):
        train(world, tmp_path / "parts", eval_share=0.5)


def test_early_stopping_the_best_weights_and_generation(world: Path, tmp_path: Path) -> None:
    folder = train(
        world,
        tmp_path / "run",
        early_stopping={"patience": 1},
        checkpoints={"keep_best": True},
        evaluation={"generations": 3, "max_new_tokens": 4},
    )
    with opened(context_of(world, "sft", **shared())) as data:
        rows = data.held_out.opened.data.rows
        questions = {rows[at]["question"] for at in range(len(rows))}
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert lines
    assert {line["prompt"] for line in lines} <= questions


def test_rows_are_read_while_others_are_tokenized(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.data.streaming.AT_ONCE", 4)
    with built(world, "sft", **shared(epochs=2, overlong="error", seed=3)) as stage:
        assert stage.learners


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"eval_data": "a.jsonl", "eval_share": 0.1}, "give one of the two"),
        ({"eval_share": 0.0}, "greater than 0"),
        ({"eval_share": 1.0}, "less than 1"),
        ({"eval_every": 3}, "eval_data or eval_share"),
        ({"checkpoints": {"keep_best": True}}, "eval_data or eval_share"),
        ({"evaluation": {"generations": 3}}, "eval_data or eval_share"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        stage_recipe("sft", {"model": "m", "data": "d.jsonl", **settings})


def test_a_side_without_rows_stops_the_run_before_training(world: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row to evaluate on"):
        train(world, tmp_path / "run", eval_share=1e-9)
    assert not (tmp_path / "run").exists()
