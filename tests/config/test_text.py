"""Recipes as text: YAML in, overrides, YAML out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.config.text import dump_yaml, flatten, load_yaml, parse_overrides, parse_yaml, put
from burnish.errors import RecipeError

NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3))
NESTED = st.dictionaries(
    NAMES, st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6), max_size=4
)


@given(data=NESTED, stages=st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), max_size=3))
def test_what_is_written_is_read_back(data, stages):
    data = {**data, "stages": stages}
    origins = {key: "default # with a sign" for key, _ in flatten(data)}
    assert parse_yaml(dump_yaml(data, origins), "text") == data
    assert parse_yaml(dump_yaml(data, {}), "text") == data


@given(data=NESTED)
def test_putting_every_leaf_rebuilds_the_whole(data):
    rebuilt: dict[str, object] = {}
    for key, value in flatten(data):
        if key:
            put(rebuilt, key, value)
    assert rebuilt == data


@given(key=NAMES, value=st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_overrides_are_typed_as_yaml(key, value):
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    assert parse_overrides([f"{key}={text}"]) == {key: value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E5", 2e5),
        ("1.5e-3", 1.5e-3),
        ("-3e2", -300.0),
        ("null", None),
        ("[0.9, 0.95]", [0.9, 0.95]),
        ("a=b", "a=b"),
        ("", None),
        ("1e", "1e"),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert parse_overrides([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["epochs"], ["'epochs'", "key=value"]),
        (["=3"], ["key=value"]),
        (["--max-len=3", "a"], ["'a'"]),
        (["a=1", "a=2"], ["1", "2", "once"]),
        (["a=[1"], ["a=[1"]),
    ],
)
def test_broken_overrides(overrides, words):
    with pytest.raises(RecipeError) as error:
        parse_overrides(overrides)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"model: [", ["recipe.yaml", "line 1"]),
        (b"a: 1\nb: 2\na: 3\n", ["line 3", "a occurs twice"]),
        (b"", ["nothing", "mapping"]),
        (b"- 1\n", ["list", "mapping"]),
        (b"a: \xff\xfe\n", ["UTF-8"]),
        (b"a: \x01\n", ["recipe.yaml"]),
        (b"? [a, b]\n: 1\n", ["line 1", "name"]),
        (b"a: !!python/object/apply:os.system [ls]\n", ["line 1"]),
    ],
)
def test_broken_files(tmp_path, content, words):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        load_yaml(path)
    assert all(word in str(error.value) for word in words)


def test_a_missing_file(tmp_path):
    with pytest.raises(RecipeError, match="No such file"):
        load_yaml(tmp_path / "none.yaml")


def test_a_key_through_a_value():
    with pytest.raises(RecipeError, match="not a group of settings"):
        put({"a": 3}, "a.b", 1)
