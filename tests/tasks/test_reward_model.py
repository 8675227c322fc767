"""A reward model as a judge of responses: it says in a worker what it says to `burnish eval`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError, RecipeError
from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward_model_scorer import RewardModelScorer
from burnish.tasks.reward_runner import RewardRunner
from burnish.tasks.settings import read_rewards
from burnish.verbs.evaluate import EvalSettings, read_settings
from burnish.verbs.evaluate_preferences import evaluate_preferences
from burnish.verbs.evaluate_reward_model import evaluate_reward_model, value_head_to_evaluate

ROWS = [
    {"question": f"q {i}?", "response": "so it is <|end|>" if i % 2 else f"no {i}", "kind": i % 3, "size": i % 2}
    for i in range(12)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reward models: of pairs, and of two scores."""
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = "<|system|>"  # that of the tiny model ends turns
    tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=8))
    write_rows(folder / "scores.jsonl", ROWS)
    given = {"model": str(folder / "model"), "max_steps": 1, "sequences_per_step": 4}
    burnish.reward(data=str(folder / "pairs.jsonl"), output=str(folder / "one"), **given)
    several = {"loss": "regression", "scores": ["kind", "size"]}
    burnish.reward(data=str(folder / "scores.jsonl"), output=str(folder / "two"), **given, **several)
    burnish.reward(
        data=str(folder / "scores.jsonl"),
        output=str(folder / "adapter"),
        **given,
        **several,
        **{"adapter.kind": "lora", "adapter.rank": 2},
    )
    return folder


def judged(settings: Mapping[str, object], answers: list[ResponseView]) -> list[float]:
    with RewardRunner(read_rewards({"name": "reward_model", **settings}), workers=1) as judge:
        [verdicts] = judge([answers])
    found = [verdict.reward for verdict in verdicts]
    assert all(isinstance(each, float) for each in found), found
    return found


def test_a_worker_says_what_burnish_eval_says(world: Path):
    rows = [json.loads(line) for line in (world / "pairs.jsonl").read_text().splitlines()]
    answers = [
        ResponseView(tuple(row["prompt"]), row[name][0]["content"]) for row in rows for name in ("chosen", "rejected")
    ]
    found = judged({"model": str(world / "one")}, answers)
    asked = read_settings(EvalSettings, {"data": str(world / "pairs.jsonl")}, [])
    wanted = [sample["margin"] for sample in evaluate_preferences(str(world / "one"), asked).samples()]
    assert [one - other for one, other in zip(found[::2], found[1::2], strict=True)] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ["two", "adapter"])
def test_one_of_several_scores_or_their_sum(world: Path, name: str):
    """Text of control tokens in an answer stays text there, as it was in training."""
    asked, head_config = (
        read_settings(EvalSettings, {"data": str(world / "scores.jsonl")}, []),
        value_head_to_evaluate(str(world / name)),
    )
    assert head_config is not None
    samples = [each["values"] for each in evaluate_reward_model(str(world / name), asked, head_config).samples()]
    answers = [ResponseView(({"role": "user", "content": str(row["question"])},), str(row["response"])) for row in ROWS]
    open_judge = RewardModelScorer.open(str(world / name), "size", {})
    assert [open_judge(each) for each in answers] == pytest.approx([each["size"] for each in samples], abs=1e-5)
    open_judge = RewardModelScorer.open(str(world / name), None, {"kind": 2.0, "size": -1.0})
    wanted = [2 * each["kind"] - each["size"] for each in samples]
    assert [open_judge(each) for each in answers] == pytest.approx(wanted, abs=1e-5)


def test_plain_text_is_judged_as_plain_text(world: Path):
    judge = RewardModelScorer.open(str(world / "one"), None, {})
    assert judge(ResponseView("2+2=", " 4")) != judge(ResponseView("2+2=", " 5"))


def test_what_stood_in_the_prompt_is_judged_too(world: Path):
    judge = RewardModelScorer.open(str(world / "one"), None, {})
    for prompt in ("2+2=", ({"role": "user", "content": "2+2?"},)):
        whole = judge(ResponseView(prompt, "It is 4."))
        assert judge(ResponseView(prompt, "It is 4.", generation_prefix="It is")) == whole
        assert judge(ResponseView(prompt, " 4.")) != whole


def test_what_is_no_reward(world: Path):
    for settings, words in (
        ({"model": str(world / "model")}, "a language model"),
        ({"model": str(world / "two")}, r"select one of its scores \(kind, size\)"),
        ({"model": str(world / "two"), "output": "taste"}, "its scores are: kind, size"),
        ({"model": str(world / "one"), "weights": {"size": 1}}, "none with a name"),
    ):
        with pytest.raises((ModelError, RecipeError), match=words):
            RewardModelScorer.open(settings["model"], settings.get("output"), settings.get("weights", {}))
    with pytest.raises(RecipeError, match="output selects one score and weights several"):
        read_rewards({"name": "reward_model", "model": "m", "output": "a", "weights": {"a": 1.0}})


def test_its_identity_is_that_of_its_weights(world: Path):
    def identity(name: str) -> str:
        [reward] = read_rewards({"name": "reward_model", "model": str(world / name)})
        return reward.identity

    assert identity("one") == identity("one") != identity("two")
