"""A process reward model as a reward: its values are those of training and evaluation, and steps get their own."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import burnish
from burnish.builtin.sets import builtin_rows, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.errors import ModelError, RecipeError
from burnish.grading.reward_runner import RewardRunner
from burnish.grading.verdict_cache import VerdictCache
from burnish.model.open import open_model
from burnish.model.policy import Model
from burnish.rewards.process_reward_scorer import ProcessRewardScorer
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import combine
from burnish.rewards.steps import AGGREGATIONS, step_ends
from burnish.rewards.verdict import Failure, FailureKind, SteppedOutcome, StepReward, Verdict
from burnish.types import Microbatch, Score, TokenScores
from burnish.verbs.evaluate import EvalSettings, read_settings
from burnish.verbs.evaluate_reward_model import evaluate_reward_model, value_head_to_evaluate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reward models: of steps by two losses, and of whole responses."""
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    tokenizer.pad_token = "<|system|>"  # that of the tiny model ends turns
    tokenizer.save_pretrained(folder / "model")
    plain = [{"prompt": "q:", "completions": ["a is <|end|>", "b 2 "], "labels": [1, 0]}]
    write_rows(folder / "steps.jsonl", builtin_rows("steps", count=12))
    write_rows(folder / "plain.jsonl", plain * 4)
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=8))
    given: dict[str, Any] = {"model": str(folder / "model"), "max_steps": 1, "sequences_per_step": 4}
    steps = {"data": str(folder / "steps.jsonl"), **given}
    burnish.reward(output=str(folder / "logits"), loss="step_cross_entropy", **steps)
    burnish.reward(output=str(folder / "numbers"), loss="step_regression", **steps)
    lora = {"adapter.kind": "lora", "adapter.rank": 2}
    burnish.reward(output=str(folder / "adapter"), loss="step_cross_entropy", **steps, **lora)
    burnish.reward(data=str(folder / "pairs.jsonl"), output=str(folder / "whole"), **given)
    return folder


def opened(world: Path, name: str, aggregation: str = "minimum", **options: Any) -> ProcessRewardScorer:
    return ProcessRewardScorer.open(str(world / name / "model"), aggregation, device="cpu", **options)  # type: ignore[arg-type]


def rewards_of(world: Path, name: str, **options: Any) -> tuple[Any, ...]:
    return read_rewards({"name": "process_reward_model", "model": str(world / name / "model"), **options})


def verdicts(world: Path, answers: list[ResponseView], name: str = "logits", **options: Any) -> list[Verdict]:
    with RewardRunner(rewards_of(world, name, **options), workers=1, device="cpu") as grade:
        [found] = grade([answers])
    return found


ASKED = ({"role": "user", "content": "2+2?"},)
ANSWERS = [
    *(ResponseView(ASKED, text) for text in ("2 is\nIt is 4.", "2 is\nIt is 5.", "<think>\n2 is\n</think>\n\n4", "4")),
    ResponseView(ASKED, "no <|end|> here\n4 é😀\n "),
    ResponseView("2+2=", " 4\nand 5"),
    ResponseView(({"role": "system", "content": "Be short."}, *ASKED), "4\n5\n6"),
]
"""Responses to several prompts, in one group."""


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a\nb", ["a", "b"]),
        ("<think>\na = 1\n\nb\n</think>\n4", ["<think>\na = 1", "b", "</think>\n4"]),
        ("<think>a\n</think>", ["<think>a"]),
        (" \n\t\n", []),
        ("", []),
        ("<think>\n\n</think>", []),
        ("  a \n b\n", ["  a", "b"]),
        ("é😀\n[THINK] x", ["é😀", "[THINK] x"]),
    ],
)
def test_where_steps_end(text, steps):
    ends = step_ends(text)
    assert [text[: end + 1] for end in ends] == [
        text[: text.index(step.split("\n")[-1]) + len(step.split("\n")[-1])] for step in steps
    ]
    assert all(not text[end].isspace() for end in ends)


def test_another_separator():
    assert step_ends("a\nb\n\nc\n\n", "\n\n") == (2, 5)
    assert step_ends("a; b;", ";") == (0, 3)


def test_aggregations_by_hand():
    values = [0.5, 0.25, 0.75]
    found = {name: function(values) for name, function in AGGREGATIONS.items()}
    assert found == {"sum": 1.5, "mean": 0.5, "minimum": 0.25, "product": 0.09375, "last": 0.75}


@pytest.mark.parametrize("name", ["logits", "numbers", "adapter"])
def test_values_are_those_of_burnish_eval(world, name):
    """On the same text: of rows in steps, evaluated as in training, and of the response that they make."""
    rows = [json.loads(line) for line in (world / "steps.jsonl").read_text().splitlines()]
    asked = read_settings(EvalSettings, {"data": str(world / "steps.jsonl")}, [])
    head = value_head_to_evaluate(str(world / name))
    assert head is not None
    expected = [sample["values"] for sample in evaluate_reward_model(str(world / name), asked, head).samples()]
    answers = [ResponseView(tuple(row["prompt"]), "\n".join(row["completions"])) for row in rows]
    found = opened(world, name, probability=False).values([[answer] for answer in answers])
    for values, others in zip(found, expected, strict=True):
        assert list(values) == pytest.approx(others, abs=1e-5)
    probable = opened(world, name).values([answers])
    for values, others in zip(probable, expected, strict=True):
        sigma = [1 / (1 + math.exp(-value)) for value in others]
        assert list(values) == pytest.approx(others if name == "numbers" else sigma, abs=1e-5)


@pytest.mark.parametrize("name", ["logits", "adapter"])
def test_a_value_is_that_of_a_plain_forward(world, name):
    plain = open_model(str(world / name / "model"), device=torch.device("cpu"), allow_reward_model=True)
    scorer = opened(world, name, probability=False)
    for answer, values in zip(ANSWERS, scorer.values([ANSWERS]), strict=True):
        [sample] = scorer.renderer.samples([answer])
        ends = (~torch.tensor(sample.step_labels).isnan()).nonzero()[:, 0]
        with torch.no_grad():
            logits = plain.model(input_ids=torch.tensor(sample.tokens, dtype=torch.int64)[None]).logits
        assert list(values) == pytest.approx(logits[0, ends, 0].tolist(), abs=1e-5)
        assert len(values) == len(step_ends(answer.text))


@pytest.mark.parametrize("budget", [1, 40, 8192])
def test_a_value_depends_neither_on_the_batch_nor_on_the_order(world, budget):
    scorer = opened(world, "logits", budget=budget)
    alone = [scorer([[answer]])[0][0] for answer in ANSWERS]
    assert scorer([ANSWERS])[0] == pytest.approx(alone, abs=1e-6)
    assert scorer([ANSWERS[::-1]])[0] == pytest.approx(alone[::-1], abs=1e-6)
    assert scorer([]) == []
    assert scorer([[]]) == [[]]


def test_a_value_does_not_depend_on_later_steps(world):
    scorer = opened(world, "logits")
    long, short = scorer.values([[ResponseView(ASKED, "a\nb\nc"), ResponseView(ASKED, "a\nb")]])
    assert list(long)[:2] == pytest.approx(list(short), abs=1e-6)


def test_a_prompt_is_computed_once(world, monkeypatch):
    scorer, sizes = opened(world, "logits"), []
    real = Model.score

    def counted(model: Model, microbatch: Microbatch, needs: list[Score]) -> TokenScores:
        sizes.append(len(microbatch.tokens))
        return real(model, microbatch, needs)

    monkeypatch.setattr(Model, "score", counted)
    scorer([[ANSWERS[0]], [ANSWERS[1]]])
    apart = sum(sizes)
    sizes.clear()
    scorer([ANSWERS[:2]])
    # Both begin with the same step: what is before its last token is shared.
    [sample] = scorer.renderer.samples(ANSWERS[:1])
    shared = int((~torch.tensor(sample.step_labels).isnan()).nonzero()[0, 0])
    assert shared > 5
    assert sum(sizes) == apart - shared


def test_aggregates_of_a_response(world):
    [values] = opened(world, "logits").values([ANSWERS[:1]])
    assert len(values) == 2
    for name, function in AGGREGATIONS.items():
        [verdict] = verdicts(world, ANSWERS[:1], aggregation=name)
        assert verdict.reward == pytest.approx(function(list(values)), abs=1e-6)
        assert verdict.steps == ()
    [verdict] = verdicts(world, ANSWERS[:1])
    assert verdict.reward == pytest.approx(min(values), abs=1e-6)


def test_steps_are_credited_with_their_weighted_values(world):
    [values] = opened(world, "logits").values([ANSWERS[2:3]])
    [verdict] = verdicts(world, ANSWERS[2:3], credit="step", weight=0.5)
    text = ANSWERS[2].text
    assert [step.end for step in verdict.steps] == [text.index("2 is") + 3, len(text) - 1]
    assert [step.reward for step in verdict.steps] == pytest.approx([0.5 * value for value in values], abs=1e-6)
    assert verdict.reward == pytest.approx(math.fsum(step.reward for step in verdict.steps), abs=1e-12)
    assert verdict.parts["process_reward_model"] == pytest.approx(math.fsum(values), abs=1e-6)


def test_several_process_rewards_add_up_and_a_failure_or_a_weight_of_0_has_no_steps():
    rewards = read_rewards(
        [
            {"name": "process_reward_model", "model": "a", "credit": "step", "metric": "a"},
            {"name": "process_reward_model", "model": "b", "credit": "step", "metric": "b", "weight": 2.0},
            {"name": "process_reward_model", "model": "c", "credit": "step", "metric": "c", "weight": 0.0},
            "number",
        ]
    )
    one, other = SteppedOutcome([StepReward(3, 0.5)]), SteppedOutcome([StepReward(3, 0.25), StepReward(9, -1.0)])
    verdict = combine(rewards, {"a": one, "b": other, "c": other, "number": 1.0})
    assert verdict.steps == (StepReward(3, 0.5), StepReward(3, 0.5), StepReward(9, -2.0))
    assert verdict.reward == 0.5 + 2 * (0.25 - 1.0) + 1.0
    assert all(type(part) is float for part in verdict.parts.values()), "steps are in the verdict alone"
    failure = Failure(FailureKind.CRASH, "no")
    assert combine(rewards, {"a": one, "b": other, "c": other, "number": failure}).steps == ()


def test_a_response_without_steps(world):
    empty = [ResponseView(ASKED, text) for text in ("", "\n", "<think>\n</think>")]
    for aggregation in AGGREGATIONS:
        assert [verdict.reward for verdict in verdicts(world, empty, aggregation=aggregation)] == [0.0] * 3
    assert [verdict.reward for verdict in verdicts(world, empty, credit="step")] == [0.0] * 3
    for verdict in verdicts(world, empty, name="numbers"):
        assert isinstance(verdict.reward, Failure)
        assert "the response has no step" in verdict.reward.detail


def test_an_unusable_response_has_a_failure_of_its_own(world):
    first, *others, last = verdicts(world, [ResponseView("", "4"), *ANSWERS, ResponseView(ASKED, "a b " * 5000)])
    assert [verdict.reward for verdict in others] == pytest.approx(
        [verdict.reward for verdict in verdicts(world, ANSWERS)], abs=1e-6
    )
    for verdict, words in ((first, "the first token of the text ends a step"), (last, "the reward model takes")):
        assert isinstance(verdict.reward, Failure)
        assert verdict.reward.kind is FailureKind.UNUSABLE_ROW
        assert words in verdict.reward.detail


def test_what_is_no_process_reward(world):
    for name, options, words in (
        ("whole", {}, "a reward model of whole answers"),
        ("numbers", {"probability": True}, "not logits of probabilities"),
        ("numbers", {"aggregation": "product"}, "choose another aggregation"),
    ):
        with pytest.raises((ModelError, RecipeError), match=words):
            verdicts(world, ANSWERS, name=name, **options)
    with pytest.raises(ModelError, match="a language model"):
        opened(world / "..", world.name, "minimum").values([])
    with (
        RewardRunner(
            read_rewards({"name": "reward_model", "model": str(world / "logits" / "model")}), device="cpu"
        ) as grade,
        pytest.raises(ModelError, match="give it to the reward process_reward_model"),
    ):
        grade([ANSWERS])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"credit": "step", "aggregation": "minimum"}, "aggregation is minimum; remove aggregation"),
        ({"credit": "step", "cache": True}, "cache stores the reward of a response"),
        ({"timeout": 3}, "timeout has no effect on a reward model"),
        ({"aggregation": "product", "probability": False}, "product multiplies probabilities"),
        ({"separator": ""}, "separator"),
    ],
)
def test_settings_that_cannot_work(options, words):
    with pytest.raises(RecipeError, match=words):
        read_rewards({"name": "process_reward_model", "model": "m", **options})


def test_the_aggregation_goes_by_the_credit():
    def resolved(**options: str) -> str:
        [reward] = read_rewards({"name": "process_reward_model", "model": "m", **options})
        return str(reward.resolved_aggregation)  # type: ignore[attr-defined]

    assert (resolved(), resolved(credit="step"), resolved(aggregation="last")) == ("minimum", "sum", "last")


def test_outcomes_of_responses_are_cached(world, tmp_path):
    with (
        VerdictCache.open(tmp_path / "verdicts.jsonl") as cache,
        RewardRunner(rewards_of(world, "logits", cache=True), 1, cache, device="cpu") as grade,
    ):
        first = grade([ANSWERS])
        assert len(cache) == len(ANSWERS)
        assert grade([ANSWERS]) == first


def test_loading_and_scoring_leave_the_generator_as_it_was(world):
    before = torch.get_rng_state()
    opened(world, "logits")([ANSWERS])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_outcome_of_steps_is_copied_with_them():
    outcome = SteppedOutcome([StepReward(3, 0.5), StepReward(5, 0.1)])
    for copied in (copy.deepcopy(outcome), pickle.loads(pickle.dumps(outcome))):
        assert (copied, copied.steps) == (0.6, outcome.steps)
