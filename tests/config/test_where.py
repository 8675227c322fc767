"""The line of a user's file that raised, with its text."""

from __future__ import annotations

import pytest

from burnish.config.user_code import UserCode
from burnish.errors import RecipeError

SOURCE = """\
def helper(row):
    return row["missing"]  # the line that raised


def reward(row):
    return helper(row)
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str, name: str = "reward") -> str:
        (tmp_path / "mine.py").write_text(text)
        return f"{tmp_path / 'mine.py'}:{name}"

    return write


def test_the_innermost_line_of_the_file(written):
    code = UserCode.read(written(SOURCE), "a reward", RecipeError)
    with pytest.raises(KeyError) as caught:
        code.load()({})
    assert code.where(caught.value) == f' ({code.path} line 2: return row["missing"]  # the line that raised)'


def test_an_error_from_elsewhere_has_no_line(written):
    code = UserCode.read(written(SOURCE), "a reward", RecipeError)
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    assert code.where(caught.value) == ""


def test_a_long_line_is_cut(written):
    code = UserCode.read(written(f"def reward(row):\n    return row + {'1 + ' * 200}1\n"), "a reward", RecipeError)
    with pytest.raises(TypeError) as caught:
        code.load()("x")
    assert len(code.where(caught.value)) < len(code.path) + 150


@pytest.mark.parametrize(
    ("text", "line"),
    [("import nothing_of_this_name\n", "line 1: import nothing_of_this_name"), ("x = 1\ndef f(:\n", "line 2: def f(:")],
    ids=["an import", "syntax"],
)
def test_a_file_that_cannot_be_run_is_told_with_its_line(written, text, line):
    with pytest.raises(RecipeError) as caught:
        UserCode.read(written(text), "a reward", RecipeError)
    assert line in caught.value.given
