"""Callbacks of a run: what they are given, how they stop it, and that it resumes bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import Interrupted
from burnish.recipe.read import stage_recipe
from burnish.runs.checkpoint import load_checkpoint
from burnish.stages.result import RunResult
from burnish.stages.run import run
from burnish.train.callbacks import Callbacks, CheckpointInfo, EvaluationInfo, StepInfo
from tests.stages.small import FILES, SETTINGS, write_world

STEPS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def train(world: Path, output: Path, method: str = "sft", callbacks: Callbacks | None = None) -> RunResult:
    given = {key: str(world / str(value)) if key in FILES else value for key, value in SETTINGS[method].items()}
    sizes: dict[str, Any] = {"max_steps": STEPS, "eval_every": 2, "checkpoint_every": 2, "learning_rate": 1e-2}
    if method == "rl":
        sizes |= {"groups_per_step": 2, "responses_per_prompt": 3, "reward_workers": 1}
    recipe = stage_recipe(method, {"model": str(world / "model"), **given, **sizes}, output=str(output))
    return run(recipe, callbacks=callbacks or Callbacks())


def lines(result: RunResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]


def weights(result: RunResult) -> bytes:
    return (result.folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", SETTINGS)
def test_every_step_evaluation_and_checkpoint_is_told(world, tmp_path, method):
    """With the metrics of its line, in every stage; and telling changes nothing."""
    steps: list[StepInfo] = []
    evaluations: list[EvaluationInfo] = []
    saved: list[CheckpointInfo] = []
    done = train(world, tmp_path / "told", method, Callbacks(steps.append, evaluations.append, saved.append))
    assert [(info.stage, info.step, info.total) for info in steps] == [(method, n, STEPS) for n in range(1, STEPS + 1)]
    assert [info.step for info in evaluations] == [0, 2, 4]
    assert [(info.step, info.path.name) for info in saved] == [(2, "step-2"), (4, "step-4")]
    by_step = {line["step"]: line for line in lines(done) if "train/loss" in line}
    for info in steps:
        assert "train/loss" in info.metrics
        assert info.metrics.items() <= by_step[info.step].items()
    evaluated = [line for line in lines(done) if any(name.startswith("eval/") for name in line)]
    for info, line in zip(evaluations, evaluated, strict=True):
        assert {"stage": method, "step": info.step, **info.metrics} == line
    assert weights(train(world, tmp_path / "untold", method)) == weights(done)


STOPS: dict[str, Callable[[int], Callbacks]] = {
    "on_step": lambda step: Callbacks(on_step=lambda info: info.step != step),
    "on_evaluation": lambda step: Callbacks(on_evaluation=lambda info: info.step != step),
    "on_checkpoint": lambda step: Callbacks(on_checkpoint=lambda info: info.step != step),
}


@pytest.mark.parametrize("name", STOPS)
@pytest.mark.parametrize("step", [1, 2])
def test_false_stops_the_run_after_a_checkpoint_and_it_resumes_bit_for_bit(world, tmp_path, name, step):
    if step == 1 and name != "on_step":
        pytest.skip("nothing is due after the first step")
    with pytest.raises(Interrupted, match=f"stopped after step {step} of {STEPS}, a checkpoint is written"):
        train(world, tmp_path / "run", callbacks=STOPS[name](step))
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / f"step-{step}").step == step
    assert not (tmp_path / "run" / "finished.json").exists()
    resumed, whole = train(world, tmp_path / "run"), train(world, tmp_path / "whole")
    assert weights(resumed) == weights(whole)
    losses = [[line["train/loss"] for line in lines(done) if "train/loss" in line] for done in (resumed, whole)]
    assert losses[0] == losses[1]


def test_a_stop_before_the_first_step(world, tmp_path):
    with pytest.raises(Interrupted, match="nothing was trained yet"):
        train(world, tmp_path, callbacks=Callbacks(on_evaluation=lambda info: False))


def test_nothing_but_false_stops(world, tmp_path):
    answers = iter([None, 0, "", True])
    assert train(world, tmp_path, callbacks=Callbacks(on_step=lambda info: next(answers))).steps == STEPS


def test_the_last_step_is_not_interrupted(world, tmp_path):
    assert train(world, tmp_path, callbacks=STOPS["on_step"](STEPS)).steps == STEPS


@pytest.mark.parametrize("name", ["on_step", "on_evaluation", "on_checkpoint"])
def test_an_exception_of_a_callback_ends_the_run_and_leaves_it_whole(world, tmp_path, name):
    def broken(info: StepInfo | EvaluationInfo | CheckpointInfo) -> None:
        if info.step == 3 - (name != "on_step"):
            raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"):
        train(world, tmp_path / "run", callbacks=Callbacks(**{name: broken}))
    assert "KeyError: 'no such column'" in (tmp_path / "run" / "log.txt").read_text()
    assert ">failed<" in (tmp_path / "run" / "report.html").read_text()
    for path in (tmp_path / "run" / "checkpoints").glob("step-*"):
        load_checkpoint(path)
    assert weights(train(world, tmp_path / "run")) == weights(train(world, tmp_path / "whole"))


def test_callbacks_are_no_part_of_the_identity(world, tmp_path):
    first = train(world, tmp_path, callbacks=Callbacks(on_step=lambda info: None))
    again = train(world, tmp_path)
    assert again.again
    assert again.summary == first.summary
