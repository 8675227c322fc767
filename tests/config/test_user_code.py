"""Errors of user code: file, number and text of the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.config.user_code import UserCode
from burnish.errors import DataError

CODE = """\
def inner(row):
    return row["answer"]


def convert(row):
    return {"text": inner(row)}


def elsewhere(row):
    raise RuntimeError


def silent(row):
    return int.from_bytes(
        row,
        "no order",
    )
"""


def raised(tmp_path: Path, name: str, row: object) -> tuple[str, str]:
    file = tmp_path / "own.py"
    file.write_text(CODE)
    code = UserCode.read(f"{file}:{name}", "a format", DataError)
    file.write_text("# changed while it runs\n")
    with pytest.raises(Exception) as caught:  # noqa: PT011 (any error of the code)
        code.load()(row)
    return code.raised(caught.value).replace(str(tmp_path), "."), code.where(caught.value).replace(str(tmp_path), ".")


def test_the_innermost_line_of_the_file_is_shown(tmp_path: Path) -> None:
    assert raised(tmp_path, "convert", {}) == (
        """KeyError: 'answer' (./own.py line 2: return row["answer"])""",
        """ (./own.py line 2: return row["answer"])""",
    )


def test_an_error_without_a_message(tmp_path: Path) -> None:
    assert raised(tmp_path, "elsewhere", {})[0] == "RuntimeError (./own.py line 10: raise RuntimeError)"


def test_an_error_from_a_library_names_the_line_that_called_it(tmp_path: Path) -> None:
    assert "(./own.py line 14: return int.from_bytes(" in raised(tmp_path, "silent", b"")[0]


def test_an_error_from_elsewhere_has_no_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(CODE)
    code = UserCode.read(f"{file}:convert", "a format", DataError)
    assert code.raised(ValueError("no")) == "ValueError: no"
    assert code.where(ValueError("no")) == ""


def test_a_file_that_fails_on_import_shows_its_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("import math\nmath.sqrt(-1)\n")
    with pytest.raises(DataError, match=r"cannot be run: ValueError: .* \(.*own\.py line 2: math\.sqrt\(-1\)\)"):
        UserCode.read(f"{file}:convert", "a format", DataError)
