"""What a response says in its thought is not its answer (kind O)."""

from __future__ import annotations

import json
from typing import Any

from .trial import Trial, case

EXTRACT = ("burnish.rewards.match", "burnish.evaluate.match")
VIEW = ("burnish.rewards.response_view", "burnish.tasks.answer:Answer")


def score(trial: Trial, reward: str, response: str, reference: str) -> bool:
    """Whether a built-in reward calls a response right."""
    kind: Any = trial.named(reward, "burnish.rewards.exact", "burnish.tasks.closed")
    view: Any = trial.named("ResponseView", *VIEW)
    return bool(kind().score(view("What is it?", response, reference=reference)))


def train_and_evaluate(trial: Trial, thought: str, answer: str, expected: str, *settings: str) -> float:
    """Accuracy of a model that learned to think `thought` and to answer `answer`, where `expected` is right."""
    words = [{"role": "user", "content": "Word?"}]
    reply = {"role": "assistant", "content": answer} | ({"reasoning_content": thought} if thought else {})
    rows = trial.write("rows.jsonl", *[{"messages": [*words, reply]}] * 4)
    wanted = trial.write("wanted.jsonl", {"messages": [*words, {"role": "assistant", "content": expected}]})
    quick = ["max_steps=60", "learning_rate=1e-2", "sequences_per_step=4", "schedule.kind=constant", "log_every=100"]
    trial.burnish("sft", "--model", trial.model("qwen3"), "--data", rows, "--output", "run", *quick).succeeded()
    command = ["eval", "run", "--data", wanted, "--output", "figures.json", "max_new_tokens=60", *settings]
    trial.burnish(*command).succeeded()
    return float(json.loads((trial.folder / "figures.json").read_text())["accuracy"])


@case("O-42-eval-counts-thoughts")
def an_answer_in_the_thought_is_not_right(trial: Trial) -> None:
    assert train_and_evaluate(trial, "blue?", "red", "blue", "match=contains") == 0


@case("O-42-answer-after-an-empty-thought")
def an_answer_after_an_empty_thought_is_right(trial: Trial) -> None:
    assert train_and_evaluate(trial, "", "red", "red", "match=exact") == 1


@case("O-neighbor-thought-numbers")
def the_last_number_of_an_open_thought_is_no_answer(trial: Trial) -> None:
    matches: Any = trial.named("matches", *EXTRACT)
    assert matches("<think>3?</think>It is 4.", "4", "number")
    assert not matches("<think>It is 4", "4", "number")
    assert not matches("<think>It is 4</think>It is unknown.", "4", "number")


@case("O-neighbor-other-tags")
def thoughts_in_the_tags_of_other_templates(trial: Trial) -> None:
    for opened, closed in (
        ("<thinking>", "</thinking>"),
        ("[THINK]", "[/THINK]"),
        ("<thought>", "</thought>"),
        ("<seed:think>", "</seed:think>"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
    ):
        assert not score(trial, "NumberReward", f"{opened}It is 4", "4"), opened
        assert score(trial, "NumberReward", f"{opened}It is 5{closed}It is 4", "4"), opened
        assert score(trial, "ExactReward", f"{opened}It is 5{closed}\n4", "4"), opened


@case("O-neighbor-reference-with-thought")
def a_reference_is_read_as_a_response_is(trial: Trial) -> None:
    matches: Any = trial.named("matches", *EXTRACT)
    assert matches("It is 4.", "<think>5 or 4?</think>\nSo it is 4.", "number")
    assert matches("4", "<think>5?</think>\n4", "exact")
    assert score(trial, "NumberReward", "It is 4.", "<think>\\boxed{5}</think>So it is 4.")
