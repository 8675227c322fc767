"""Built-in data sets are read by name from any folder."""

from __future__ import annotations

import pickle

import pytest

from burnish.builtin.sets import SETS, builtin_rows
from burnish.data.mixture import open_data
from burnish.data.read import read_rows
from burnish.data.settings import DataSource
from burnish.errors import DataError


@pytest.mark.parametrize("name", list(SETS))
def test_rows_are_those_of_the_generator(name):
    rows = read_rows(f"builtin:{name}/test")
    made = builtin_rows(name, "test")
    assert [rows[index] for index in range(len(rows))] == made
    assert rows.columns == tuple(made[0])
    assert rows[-1] == made[-1]
    assert rows.where(len(rows) - 1) == rows.where(-1)


def test_a_split_is_named_in_the_path_or_as_an_argument():
    train, test = read_rows("builtin:math"), read_rows("builtin:math/test")
    assert read_rows("builtin:math/train").fingerprint == train.fingerprint
    assert read_rows("builtin:math", split="test").fingerprint == test.fingerprint
    assert read_rows("builtin:math/test", split="test").fingerprint == test.fingerprint
    assert train.fingerprint != test.fingerprint


def test_a_sample_of_a_builtin_set():
    whole, part = read_rows("builtin:math"), read_rows("builtin:math#50", seed=3)
    assert len(part) == 50
    assert all(part[index] in list(whole) for index in range(50))
    assert part.fingerprint != read_rows("builtin:math#50", seed=4).fingerprint


def test_rows_can_be_pickled():
    rows = read_rows("builtin:math/test")
    again = pickle.loads(pickle.dumps(rows))
    assert list(again) == list(rows)
    assert again.fingerprint == rows.fingerprint


@pytest.mark.parametrize(
    ("name", "stage", "format"),
    [
        ("documents", "sft", "text"),
        ("chat", "sft", "chat"),
        ("math", "sft", "question_answer"),
        ("math", "rl", "task"),
        ("code", "rl", "task"),
        ("code-chat", "sft", "chat"),
        ("preferences", "prefer", "preference"),
    ],
)
def test_every_set_is_recognized_by_its_stage(name, stage, format):
    data = open_data([DataSource(path=f"builtin:{name}/test")], stage=stage)
    assert data.format.name == format
    assert data.format.convert(data.rows[0])


@pytest.mark.parametrize(
    ("path", "split", "message"),
    [
        ("builtin:chats", None, "did you mean builtin:chat?"),
        ("builtin:", None, "builtin:preferences"),
        (
            "builtin:world",
            None,
            "builtin:documents, builtin:chat, builtin:preferences, builtin:math, builtin:safety, builtin:instructions",
        ),
        ("builtin:chat/dev", None, "train, test"),
        ("builtin:chat", "validation", "train, test"),
        ("builtin:chat/test", "train", "a split is named once"),
    ],
)
def test_unknown_names_are_listed_with_the_known_ones(path, split, message):
    with pytest.raises(DataError) as caught:
        read_rows(path, split=split)
    assert message in str(caught.value)


def test_builtin_sets_are_not_streamed():
    with pytest.raises(DataError, match="only hub sets are streamed"):
        read_rows("builtin:chat", stream=10)
