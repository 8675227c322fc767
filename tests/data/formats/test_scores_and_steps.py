"""Rows with several scores, and with labelled steps: their examples and errors."""

from __future__ import annotations

import pytest

from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize, recognize_scores
from burnish.data.records import Message, Scored, Stepped
from burnish.errors import DataError

NAMES = ("helpfulness", "correctness")


def test_steps_with_labels():
    """TRL's columns; a prompt of text stays text, a question is a user's message."""
    row = {"prompt": "2+2+1=", "completions": ["2+2 is 4.", "4+1 is 6."], "labels": [True, False]}
    format = recognize(tuple(row), stage="reward")
    assert format.name == "stepwise"
    example = format.convert(row)
    assert example == Stepped("2+2+1=", ("2+2 is 4.", "4+1 is 6."), (1.0, 0.0))
    stepped = FORMATS["stepwise"].convert({"question": "q", "completions": ["a"], "labels": [0.25]})
    assert stepped == Stepped((Message("user", "q"),), ("a",), (0.25,))


def test_the_text_of_steps_and_where_they_end():
    example = Stepped("p", ("one. ", "two\n", "three"), (1, 0, 1))
    assert example.text == "one. two\nthree"
    assert [example.text[: end + 1] for end in example.ends] == ["one.", "one. two", "one. two\nthree"]
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
    """HelpSteer's columns; only the named score columns are read, in the order of their names."""
    row = {"prompt": "p", "response": "r", "correctness": 3, "helpfulness": 1.5, "verbosity": 2}
    format = recognize_scores(tuple(row), NAMES)
    assert format.convert(row) == Scored("p", "r", (1.5, 3.0))
    assert format.unused(row) == ("verbosity",)
    assert format.identity != recognize_scores(tuple(row), ("correctness",)).identity
    row = {"question": "q", "completion": "c", "helpfulness": 0, "correctness": 1}
    assert recognize_scores(tuple(row), NAMES).convert(row).prompt == (Message("user", "q"),)


@pytest.mark.parametrize("value", [None, True, "4", float("nan")])
def test_a_score_that_is_missing(value: object):
    row = {"prompt": "p", "completion": "r", "correctness": 3, "helpfulness": value}
    with pytest.raises(DataError, match="helpfulness is"):
        recognize_scores(tuple(row), NAMES).convert(row)


def test_missing_score_columns():
    with pytest.raises(DataError, match="helpfulness is not"):
        recognize_scores(("prompt", "completion", "correctness"), NAMES)
    with pytest.raises(DataError, match="a row has a prompt"):
        recognize_scores(("prompt", *NAMES), NAMES)
