"""Rewards for questions with one right answer, for structure and for style: right, wrong, and unusable rows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.grading.call import call
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Failure, FailureKind, Outcome

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def outcome_of(
    settings: object,
    text: str,
    reference: object = None,
    *,
    prompt: str = "Which is it?",
    extra: Mapping[str, object] | None = None,
    tokens: int | None = None,
) -> Outcome:
    [reward] = read_rewards(settings)
    reward.prepare()
    ids = None if tokens is None else tuple(range(tokens))
    [outcome] = call(reward, [ResponseView(prompt, text, reference, extra or {}, ids)])
    return outcome


RIGHT: dict[str, tuple[object, str, object]] = {
    "exact": ("exact", " Paris\n", "Paris"),
    "exact number": ("exact", "4", 4),
    "exact after a thought": ("exact", "<think>Rome?</think>\nParis", "Paris"),
    "regex of thought and answer": ({"name": "regex", "pattern": r"<think>.*</think>\d"}, "<think>Hm.</think>5", None),
    "normalized": ("normalized", "<think>Hm.</think>The  PARIS!", "paris"),
    "normalised, one of several": ("normalized", "the Big Apple", ["New York", "Big Apple"]),
    "regex": ({"name": "regex", "pattern": r"\d{3}"}, " 123 ", None),
    "regex anywhere": ({"name": "regex", "pattern": r"\bcat\b", "match": "search"}, "a cat.", None),
    "regex of the row": ("regex", "abab", "(ab)+"),
    "choice in a box": ("choice", r"It is \boxed{\text{(B)}}", "B"),
    "choice after answer": ("choice", "The answer is (B) because A is wrong.\n", r"\text{(B)}"),
    "choice A with a reason": ("choice", "The answer is A because B is not.", "A"),
    "choice with its text": ("choice", "Answer: (A) dogs bark", "A"),
    "choice, not the other": ("choice", "The answer is A, not B.", "A"),
    "choice after option": ("choice", "I choose. Option B.", "B"),
    "choice alone": ("choice", "Let me see.\n**B**", "B"),
    "choice in lower case": ("choice", "b", "B"),
    "number": ("number", "About 3.1 is the answer: 3.14", "3.14"),
    "number within": ({"name": "number", "absolute": 0.01}, r"\boxed{3.15}", "3.14"),
    "number within a share": ({"name": "number", "relative": 0.01}, "#### 101", "100"),
    "JSON": ({"name": "json_schema", "schema": SCHEMA}, '{"name": "Ada", "age": 36}', None),
    "JSON in a fence": ({"name": "json_schema", "schema": SCHEMA}, '```json\n{"name": "A", "age": 3}\n```', None),
    "format": ("format", "<think>Hm.</think> It is 4.", None),
    "format with answer": (
        {"name": "format", "tags": ["think", "answer"]},
        "<think>\nHm.\n</think>\n<answer>4</answer>\n",
        None,
    ),
}

WRONG: dict[str, tuple[object, str, object]] = {
    "exact case": ("exact", "paris", "Paris"),
    "exact inside": ("exact", "Paris.", "Paris"),
    "exact mark without width": ("exact", "Par\u200bis", "Paris"),
    "normalised look-alike": ("normalized", "P\u0430ris", "Paris"),
    "normalised nothing": ("normalized", "", "Paris"),
    "normalised articles": ("normalized", "the", "Paris"),
    "normalised several": ("normalized", "Paris, London", "Paris"),
    "regex part": ({"name": "regex", "pattern": r"\d{3}"}, "1234", None),
    "choice of all": ("choice", "The answer is A, B, C, D", "B"),
    "choice of two": ("choice", "The answer is A or B", "B"),
    "choice of a joined list": ("choice", "The answer is (A) and (B)", "A"),
    "choice with either": ("choice", "The answer is either A or B", "A"),
    "choice denied": ("choice", "The answer is not B", "B"),
    "choice in two boxes": ("choice", r"\boxed{A} \boxed{B}", "B"),
    "choice listed": ("choice", "A\nB\nC\nD", "B"),
    "choice repeated from the prompt": ("choice", "Which is it?", "B"),
    "choice by an article": ("choice", "The answer is a dog", "A"),
    "choice by an article in capitals": ("choice", "Answer: A dog barks", "A"),
    "choice in thoughts": ("choice", "<think>The answer is B</think>", "B"),
    "choice in a word": ("choice", "The answer is Bingo", "B"),
    "choice look-alike": ("choice", "The answer is \u0412", "B"),
    "number beside": ({"name": "number", "absolute": 0.01}, r"\boxed{3.1501}", "3.14"),
    "number by another script": ("number", "The answer is \u0664", "4"),
    "numbers listed": ({"name": "number", "absolute": 1}, "1, 2, 3, 4", "4"),
    "JSON with talk": ({"name": "json_schema", "schema": SCHEMA}, 'Here: {"name": "Ada", "age": 36}', None),
    "JSON twice": ({"name": "json_schema", "schema": SCHEMA}, '{"name":"A","age":1}{"name":"A","age":1}', None),
    "JSON key twice": ({"name": "json_schema", "schema": SCHEMA}, '{"name": 1, "name": "A", "age": 1}', None),
    "JSON that is none": ({"name": "json_schema", "schema": {}}, "NaN", None),
    "JSON too deep": ({"name": "json_schema", "schema": {}}, "[" * 100_000, None),
    "JSON of another type": ({"name": "json_schema", "schema": SCHEMA}, '{"name": "Ada", "age": "36"}', None),
    "format twice": ("format", "<think>a</think><think>b</think> 4", None),
    "format reversed": ("format", "</think>a<think> 4", None),
    "format empty": ("format", "<think> </think> 4", None),
    "format with marks without width": ("format", "<think>\u200b</think> 4", None),
    "format without answer": ("format", "<think>a</think>", None),
    "format with talk before": ("format", "Well: <think>a</think> 4", None),
    "format unclosed": ("format", "<think>a 4", None),
    "format nested": ({"name": "format", "tags": ["think", "answer"]}, "<think><answer>4</answer></think>", None),
    "format in another order": (
        {"name": "format", "tags": ["think", "answer"]},
        "<answer>4</answer><think>a</think>",
        None,
    ),
    "format with talk behind": (
        {"name": "format", "tags": ["think", "answer"]},
        "<think>a</think><answer>4</answer> or 5",
        None,
    ),
    "format opened twice": ("format", "<think><think>a</think> 4", None),
    "thoughts that do not end": ("number", "<think>a</think>The answer is 5. <think>Or 4?", "5"),
    "exact in a thought": ("exact", "<think>Paris", "<think>Paris"),
    "regex in a thought": ({"name": "regex", "pattern": "5", "match": "search"}, "<think>Perhaps 5", None),
}

UNUSABLE: dict[str, tuple[object, object]] = {
    "exact without reference": ("exact", None),
    "exact with an empty one": ("exact", " "),
    "exact with true": ("exact", True),
    "regex that is none": ("regex", "(a"),
    "choice that is none": ("choice", "Paris"),
    "number that is none": ("number", "Paris"),
    "normalized of punctuation": ("normalized", "?!"),
    "normalized of a list of punctuation": ("normalized", ["?", "..."]),
    "math without reference": ("math", None),
    "math with a list": ("math", ["4"]),
    "math with an empty box": ("math", r"\boxed{}" + " "),
    "JSON without schema": ("json_schema", None),
    "tokens of text": ({"name": "overlong", "max_length": 4, "buffer": 2}, None),
    "instructions without any": ("instructions", None),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    assert outcome_of(*RIGHT[name]) == 1.0


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    assert outcome_of(*WRONG[name]) == 0.0


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_row_that_lacks_what_is_needed_is_a_failure(name: str) -> None:
    settings, reference = UNUSABLE[name]
    outcome = outcome_of(settings, "4", reference)
    assert isinstance(outcome, Failure)
    assert outcome.kind == FailureKind.UNUSABLE_ROW


def test_a_schema_of_the_row() -> None:
    assert outcome_of("json_schema", '{"name": "Ada", "age": 36}', extra={"schema": SCHEMA}) == 1.0
    assert outcome_of("json_schema", "{}", extra={"schema": '{"required": ["a"]}'}) == 0.0
    wrong = outcome_of("json_schema", "{}", extra={"schema": {"type": "objekt"}})
    assert isinstance(wrong, Failure)


def test_a_schema_fetches_nothing() -> None:
    outcome = outcome_of({"name": "json_schema", "schema": {"$ref": "https://example.org/schema.json"}}, "{}")
    assert isinstance(outcome, Failure)
    assert "example.org" in outcome.detail


@pytest.mark.parametrize(("tokens", "value"), [(0, 0.0), (6, 0.0), (7, -0.25), (9, -0.75), (10, -1.0), (50, -1.0)])
def test_overlong_is_equation_13(tokens: int, value: float) -> None:
    """Limit 10, buffer 4: nothing up to 6, -1/4 for each token over."""
    assert outcome_of({"name": "overlong", "max_length": 10, "buffer": 4}, "x", tokens=tokens) == value


@pytest.mark.parametrize(("text", "value"), [("a b c d", 1.0), ("a b c", 0.5), ("a b c d e f", 0.0), ("", 0.0)])
def test_length_falls_from_the_target(text: str, value: float) -> None:
    assert outcome_of({"name": "length", "target": 4, "tolerance": 2, "unit": "words"}, text) == value


def test_repetition_is_the_share_of_old_ngrams() -> None:
    assert outcome_of("repetition", "one two three four five six") == 0.0
    assert outcome_of({"name": "repetition", "n": 2}, "a b, A B. a-b") == 2 / 5 - 1
    assert outcome_of("repetition", "too short") == 0.0
    assert outcome_of({"name": "repetition", "n": 1}, "no n\u200bo no") == 1 / 3 - 1


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), st.integers(1, 4))
def test_repeating_all_never_repeats_less(words: list[str], n: int) -> None:
    once, twice = " ".join(words), " ".join(words * 2)
    first, second = (outcome_of({"name": "repetition", "n": n}, text) for text in (once, twice))
    assert isinstance(first, float)
    assert isinstance(second, float)
    assert -1 < second <= first <= 0 or len(words) < n


@given(st.text(), st.text(min_size=1))
def test_an_answer_is_only_right_if_it_is_the_reference(text: str, reference: str) -> None:
    outcome = outcome_of("exact", text, reference)
    if reference.strip():
        assert outcome == float(text.strip() == reference.strip())
    else:
        assert isinstance(outcome, Failure)
