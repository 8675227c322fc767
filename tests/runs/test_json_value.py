"""JSON: exact for us, strict for others."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.runs.json_value import exact_text, flatten, same, strict_text

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=10
)


@given(VALUES)
def test_exact_text_gives_back_the_same(value):
    assert repr(json.loads(exact_text(value))) == repr(value)
    assert same(json.loads(exact_text(value)), value)


@given(VALUES)
def test_strict_text_is_one_line_without_constants(value):
    text = strict_text(value)
    assert "\n" not in text

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)


def test_sameness():
    assert same((1, 2), [1, 2])
    assert same({"a": 1, "b": math.nan}, {"b": math.nan, "a": 1})
    assert not same(1, 1.0)
    assert not same(1, True)
    assert not same({}, [])


def test_flatten():
    value = {"a": {"b": 1, "c": []}, "d": [2, {"e": "text"}], "f": {}}
    assert flatten(value) == {"a.b": 1, "a.c": [], "d.0": 2, "d.1.e": "text", "f": {}}


@pytest.mark.parametrize("value", [{1: 2}, [{"a": {None: 1}}], {"a": {1}}, [b"bytes"], object()])
def test_what_json_cannot_hold_is_our_mistake(value):
    with pytest.raises(AssertionError):
        exact_text(value)
    with pytest.raises(AssertionError):
        strict_text(value)
