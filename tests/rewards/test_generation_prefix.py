"""The generation prefix is part of the response that rewards grade, whatever its length.

For every reward, the outcome depends on the response from its beginning, and not on how much of it is in the prompt.
The exceptions measure how much the model wrote: `length` and `overlong`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from burnish.data.records import Message, Task
from burnish.grading.call import call
from burnish.rewards.registry import BUILTIN, read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import response_view
from burnish.rewards.reward import Reward

NURSERY = Path(__file__).parents[1] / "nursery.py"
OPENED = "<think>\n"
THOUGHT = "First guess: {}. Hmm, let me think again"


@dataclass(frozen=True)
class Case:
    """A reward with a right answer to a row."""

    settings: object
    right: str
    reference: object = None
    extra: dict[str, object] | None = None

    def outcome(self, text: str, prefix: str) -> object:
        """Outcome for a response whose first part `prefix` is in the prompt."""
        task = Task((Message("user", "2+3?"),), self.reference, self.extra or {}, generation_prefix=prefix)
        view = response_view(task, text.removeprefix(prefix), range(len(text) - len(prefix)))
        [result] = call(self.reward, [view])
        return result

    @property
    def reward(self) -> Reward:
        [reward] = read_rewards(self.settings)
        reward.prepare()
        return reward


CASES = {
    "math": Case("math", r"It is \boxed{5}", "5"),
    "number": Case("number", "The answer is 5", "5"),
    "choice": Case("choice", "The answer is (B)", "B"),
    "exact": Case("exact", "five", "five"),
    "normalized": Case("normalized", "The Five!", "five"),
    "regex": Case({"name": "regex", "pattern": r"\b5\b", "match": "search"}, "It is 5", None),
    "json_schema": Case({"name": "json_schema", "schema": {"type": "integer"}}, "5"),
    "instructions": Case(
        "instructions", "Five is it", None, {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    ),
    "format": Case("format", "It is 5"),
    "code": Case(
        {"name": "code", "isolation": "process"}, "```python\ndef five(): return 5\n```", ["assert five() == 5"]
    ),
    "own": Case(f"{NURSERY}:ends_with_five", "It is 5"),
    "own, lists": Case(f"{NURSERY}:all_end_with_five", "It is 5"),
}
VERIFIERS = sorted(CASES)
MEASURES = {"repetition": Case("repetition", "five is five is five is five is five")}
ALSO = {"length", "overlong", "reward_model", "process_reward_model"}
"""Lengths of what was written, and scores of reward models (test_reward_model, test_process_reward)."""


def test_every_reward_is_here() -> None:
    assert {name.partition(",")[0] for name in (*CASES, *MEASURES)} - {"own"} == set(BUILTIN) - ALSO


@pytest.mark.parametrize("name", VERIFIERS)
def test_an_open_thought_in_the_prompt_gets_no_reward(name: str) -> None:
    case = CASES[name]
    for text in (case.right, THOUGHT.format(case.right), f"a</think>b<think>{case.right}"):
        assert case.outcome(OPENED + text, OPENED) == 0


@pytest.mark.parametrize("name", VERIFIERS)
def test_a_closed_thought_with_a_right_answer_gets_the_reward(name: str) -> None:
    case = CASES[name]
    assert case.outcome(f"{OPENED}Which? None.</think>\n{case.right}", OPENED) == 1


@pytest.mark.parametrize("name", [*VERIFIERS, *MEASURES])
def test_the_outcome_does_not_depend_on_the_length_of_the_prefix(name: str) -> None:
    case = (CASES | MEASURES)[name]
    right = f"{OPENED}Hm, no.</think>\n{case.right}"
    for text in (right, OPENED + case.right, case.right, f"a</think>b<think>{case.right}"):
        outcomes = {case.outcome(text, text[:border]) for border in range(len(text))}
        assert len(outcomes) == 1, f"{text!r}: {outcomes}"


@pytest.mark.parametrize("unit", ["tokens", "words", "characters"])
def test_lengths_count_what_the_model_wrote(unit: str) -> None:
    """Token limits count that too."""
    [reward] = read_rewards({"name": "length", "target": 3, "tolerance": 1, "unit": unit})
    written = "abc" if unit == "characters" else "a b c"
    answer = response_view(Task("p", generation_prefix="<think> five words or more "), written, [1, 2, 3])
    assert reward.score(answer) == 1


def test_a_response_begins_with_its_prefix() -> None:
    answer = response_view(Task("2+3?", generation_prefix="It is"), " 5", [7])
    assert (answer.text, answer.written, answer.generation_prefix) == ("It is 5", " 5", "It is")
    assert answer.key != ResponseView("2+3?", "It is 5", token_ids=(7,)).key, "lengths differ"
    with pytest.raises(AssertionError, match="begins with"):
        ResponseView("2+3?", "5", generation_prefix="It is")
