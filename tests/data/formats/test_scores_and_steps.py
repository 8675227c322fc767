"""Rows of several scores, and of steps with labels: what they mean, and which are refused."""

from __future__ import annotations

import pytest

from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize, recognize_scores
from burnish.data.records import Message, Scored, Stepped
from burnish.errors import DataError

NAMES = ("helpfulness", "correctness")


def test_steps_with_labels():
    """TRL's columns; text stays text, a question is asked by a user."""
    row = {"prompt": "2+2+1=", "completions": ["2+2 is 4.", "4+1 is 6."], "labels": [True, False]}
    format = recognize(tuple(row), stage="reward")
    assert format.name == "stepwise"
    found = format.convert(row)
    assert found == Stepped("2+2+1=", ("2+2 is 4.", "4+1 is 6."), (1.0, 0.0))
    asked = FORMATS["stepwise"].convert({"question": "q", "completions": ["a"], "labels": [0.25]})
    assert asked == Stepped((Message("user", "q"),), ("a",), (0.25,))


def test_the_text_of_steps_and_where_they_end():
    found = Stepped("p", ("one. ", "two\n", "three"), (1, 0, 1))
    assert found.text == "one. two\nthree"
    assert [found.text[: end + 1] for end in found.ends] == ["one.", "one. two", "one. two\nthree"]
    lines = Stepped("p", ("a", "bc"), (1, 0))
    assert lines.text == "a\nbc"
    assert lines.ends == (0, 3)


@pytest.mark.parametrize(
    ("steps", "labels", "words"),
    [
        (["a", "b"], [1], "2 steps and 1 labels"),
        ([], [], "0 steps"),
        (["a", " "], [1, 0], r"completions\[1\] is empty"),
        (["a", 3], [1, 0], r"completions\[1\] is a number"),
        (["a"], ["good"], r"labels\[0\] is 'good'"),
        (["a"], [float("nan")], r"labels\[0\] is nan"),
        (["a"], [None], r"labels\[0\] is None"),
        ("a", [1], "completions is text"),
    ],
)
def test_steps_that_cannot_be_learned(steps: object, labels: object, words: str):
    with pytest.raises(DataError, match=words):
        FORMATS["stepwise"].convert({"prompt": "p", "completions": steps, "labels": labels})


def test_several_scores():
    """HelpSteer's columns; only those that are named count, in the order in which they are."""
    row = {"prompt": "p", "response": "r", "correctness": 3, "helpfulness": 1.5, "verbosity": 2}
    format = recognize_scores(tuple(row), NAMES)
    assert format.convert(row) == Scored("p", "r", (1.5, 3.0))
    assert format.unused(row) == ("verbosity",)
    assert format.identity != recognize_scores(tuple(row), ("correctness",)).identity
    asked = {"question": "q", "completion": "c", "helpfulness": 0, "correctness": 1}
    assert recognize_scores(tuple(asked), NAMES).convert(asked).prompt == (Message("user", "q"),)


@pytest.mark.parametrize("value", [None, True, "4", float("nan")])
def test_a_score_that_is_missing(value: object):
    row = {"prompt": "p", "completion": "r", "correctness": 3, "helpfulness": value}
    with pytest.raises(DataError, match="helpfulness is"):
        recognize_scores(tuple(row), NAMES).convert(row)


def test_scores_that_are_not_there():
    with pytest.raises(DataError, match="helpfulness is not"):
        recognize_scores(("prompt", "completion", "correctness"), NAMES)
    with pytest.raises(DataError, match="a row has a prompt"):
        recognize_scores(("prompt", *NAMES), NAMES)
