"""A loss from a user's file: it trains, its mistakes are explained, and it is part of what a run is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import RecipeError, RunError
from burnish.stages.user_loss import user_loss
from burnish.types import Scope, Score

FUNCTION = """
from burnish.types import Denominator, LossOutput, LossTerm

def loss(scores, microbatch):
    total = -(microbatch.weights * scores.logprob).sum()
    return LossOutput({"surprise": LossTerm(total, Denominator.WEIGHT)})
"""
CLASS = """
from burnish.losses.cross_entropy import CrossEntropy
from burnish.types import Denominator, LossOutput, LossTerm, Score

class Confident:
    def __init__(self, share=0.0):
        self.share = share
        self.needs = [Score.LOGPROB, Score.ENTROPY]

    def __call__(self, scores, microbatch):
        nll = LossTerm(-(microbatch.weights * scores.logprob).sum(), Denominator.WEIGHT)
        entropy = LossTerm(self.share * (microbatch.weights * scores.entropy).sum(), Denominator.WEIGHT)
        return LossOutput({"nll": nll, "entropy": entropy})

    def score_gradients(self, microbatch, denominators):
        return None
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=40))
    return folder


def train(world: Path, output: Path, **settings: object) -> list[dict[str, float]]:
    files = {"model": str(world / "model"), "data": str(world / "train.jsonl"), "output": str(output)}
    run = burnish.sft(**files, max_steps=3, sequences_per_step=8, learning_rate=1e-2, **settings)
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


def test_the_likelihood_written_by_a_user_is_ours(world: Path, tmp_path: Path) -> None:
    path = write(tmp_path, FUNCTION)
    ours = train(world, tmp_path / "ours")
    theirs = train(world, tmp_path / "theirs", loss=f"{path}:loss")
    assert [line["train/loss"] for line in theirs] == pytest.approx([line["train/loss"] for line in ours], rel=1e-5)


def test_a_class_takes_options(world: Path, tmp_path: Path) -> None:
    path = write(tmp_path, CLASS)
    plain = train(world, tmp_path / "plain", loss=f"{path}:Confident")
    calm = train(world, tmp_path / "calm", loss=f"{path}:Confident", loss_options={"share": -0.5})
    assert plain[0]["train/entropy"] == 0
    assert calm[0]["train/loss"] == pytest.approx(calm[0]["train/nll"] + calm[0]["train/entropy"], rel=1e-6)
    assert calm[0]["train/entropy"] < 0
    assert plain[0]["train/nll"] == pytest.approx(calm[0]["train/nll"], rel=1e-6)


def test_a_run_goes_on_only_with_the_same_loss(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, FUNCTION)
    with monkeypatch.context() as patch:
        patch.setattr("burnish.train.loop.export", lambda *_, **__: pytest.fail("killed before the end"))
        with pytest.raises(pytest.fail.Exception):
            train(world, tmp_path / "run", loss=f"{path}:loss")
    write(tmp_path, FUNCTION.replace("-(", "-2 * ("))
    with pytest.raises(RunError, match="the loss has changed since"):
        train(world, tmp_path / "run", loss=f"{path}:loss")


MISTAKES = {
    "no file": (None, "loss", {}, "does not exist"),
    "no such name": (FUNCTION, "los", {}, "has no function 'los'"),
    "broken": ("def loss(:", "loss", {}, "cannot be run: SyntaxError"),
    "options of a function": (FUNCTION, "loss", {"a": 1}, "only a class takes options"),
    "unknown options": (CLASS, "Confident", {"shape": 1}, "loss_options"),
    "unknown needs": (FUNCTION + "loss.needs = ['logprop']\n", "loss", {}, "a loss needs scores: logprob"),
    "unknown scope": (
        FUNCTION + "loss.scope = ['group']\n",
        "loss",
        {},
        "is one of sequence, group, step",
    ),
    "no needs": (FUNCTION + "loss.needs = []\n", "loss", {}, "a loss needs scores"),
}


def test_a_loss_sees_whole_groups_unless_it_says_otherwise(tmp_path: Path) -> None:
    """The safe choice: it costs nothing where a group fits into a microbatch."""
    assert user_loss(f"{write(tmp_path, FUNCTION)}:loss", {}).scope is Scope.GROUP
    path = write(tmp_path, FUNCTION + "loss.scope = 'step'\n")
    assert user_loss(f"{path}:loss", {}).scope is Scope.STEP


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_show_before_anything_is_trained(tmp_path: Path, case: str) -> None:
    text, name, options, said = MISTAKES[case]
    path = tmp_path / "mine.py" if text is None else write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        user_loss(f"{path}:{name}", options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def loss(scores, microbatch):\n    return scores.logprob.mean()\n", "returned a tensor of shape ()"),
        (FUNCTION.replace(".sum()", ""), "returned a LossOutput"),
        ("def loss(scores, microbatch):\n    return -scores.entropy.sum()\n", "mine.py line 2"),
    ],
)
def test_mistakes_of_a_loss_that_runs(world: Path, tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        train(world, tmp_path / "run", loss=f"{path}:loss")
    assert said in str(caught.value)


def test_needs_may_be_written_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, FUNCTION + "loss.needs = ['logprob', 'entropy']\n")
    assert user_loss(f"{path}:loss", {}).needs == (Score.LOGPROB, Score.ENTROPY)
