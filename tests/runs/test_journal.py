"""A journal under any sequence of appends, checkpoints, cuts, kills and torn lines."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.runs.journal import Journal

NUMBERS = st.floats() | st.integers(-(2**70), 2**70)
LINES = st.lists(st.dictionaries(st.text(max_size=5), NUMBERS | st.text(max_size=20), max_size=3), max_size=4)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), LINES),
        st.tuples(st.just("checkpoint"), st.none()),
        st.tuples(st.just("resume"), st.integers(0, 9)),
        st.tuples(st.just("torn"), st.text(min_size=1, max_size=9).filter(lambda text: "\n" not in text)),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(actions=ACTIONS)
def test_what_is_there_is_what_was_appended_and_not_cut(actions):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        file = Journal(path)
        kept = []
        checkpoints = [(0, 0)]
        for action, argument in actions:
            if action == "append":
                file.append(argument)
                kept += argument
            elif action == "checkpoint":
                checkpoints.append((file.offset(), len(kept)))
            elif action == "torn":
                # A kill in the middle of a line, then the same command again.
                file.close()
                with path.open("a", encoding="utf-8") as other:
                    other.write(argument)
                file = Journal(path)
            else:
                checkpoints = checkpoints[: 1 + argument]
                offset, length = checkpoints[-1]
                file.close()
                file = Journal(path)
                file.cut(offset)
                kept = kept[:length]
            written = path.read_bytes() if path.exists() else b""
            assert written == b"" or written.endswith(b"\n")
            assert [json.loads(line) for line in written.splitlines()] == [finite(line) for line in kept]
        file.close()


def finite(line):
    """What strict JSON makes of a line."""
    return {
        key: None if value != value or value in (float("inf"), -float("inf")) else value for key, value in line.items()
    }


def test_json_is_strict(tmp_path):
    file = Journal(tmp_path / "m")
    file.append([{"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}}])
    file.close()
    assert (tmp_path / "m").read_text() == '{"a": null, "b": [null, 1.5], "c": {"d": null}}\n'


def test_lines_that_cannot_be_written_leave_nothing(tmp_path):
    file = Journal(tmp_path / "m")
    with pytest.raises(AssertionError, match="JSON cannot hold"):
        file.append([{"good": 1}, {"bad": {1, 2}}])
    assert file.offset() == 0
    file.close()


def test_a_long_torn_line(tmp_path):
    (tmp_path / "m").write_bytes(b'{"a": 1}\n' + b"x" * 200_000)
    Journal(tmp_path / "m").close()
    assert (tmp_path / "m").read_bytes() == b'{"a": 1}\n'


def test_a_file_made_shorter_by_someone_stays_usable(tmp_path):
    (tmp_path / "m").write_bytes(b'{"a": 1}\n{"a": 2}\n')
    file = Journal(tmp_path / "m")
    file.cut(12)
    file.cut(100)
    file.append([{"a": 3}])
    file.close()
    assert (tmp_path / "m").read_bytes() == b'{"a": 1}\n{"a": 3}\n'
