"""docs/families.md and the table of docs/vision.md are about the families that are tested, and say what they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.families import PAGE, VISION_PAGE, known, known_of_vision, replaced
from tests.families import FAMILIES, REFUSED
from tests.vision.small import FAMILIES as VISION_FAMILIES


def rows_between(marks: str, page: Path = PAGE) -> list[list[str]]:
    """The cells of a table's rows, without its two lines of headings."""
    _, _, rest = page.read_text(encoding="utf-8").partition(f"<!-- {marks}:")
    table, _, _ = rest.partition(f"<!-- end of {marks}")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[3:]]


def test_the_table_is_of_the_families_that_are_tested():
    """In their order, with class, features and route; the differences are of the machine that wrote it."""
    rows = rows_between("families")
    assert [row[:4] for row in rows] == [known(family) for family in FAMILIES]
    assert all(float(cell) < 1e-12 for row in rows for cell in row[4:])


def test_the_table_of_the_refused_is_of_those_that_are_tested():
    rows = rows_between("refused")
    assert [row[:2] for row in rows] == [[family, type(made()).__name__] for family, made in REFUSED.items()]
    assert all(reason for *_, reason in rows)


def test_the_table_of_vision_is_of_the_families_that_are_tested():
    rows = rows_between("vision", VISION_PAGE)
    assert [row[:5] for row in rows] == [known_of_vision(small) for small in VISION_FAMILIES]
    assert all(float(cell) <= 1e-10 for row in rows for cell in row[5:])


@pytest.mark.parametrize(("name", "path"), [("families", PAGE), ("refused", PAGE), ("vision", VISION_PAGE)])
def test_writing_a_table_changes_nothing_else(name, path):
    page = path.read_text(encoding="utf-8")
    other = replaced(page, name, iter([["a", "b"]]))
    marks = f"<!-- {name}: python -m scripts.families -->\n", f"<!-- end of {name} -->"
    for mark, part in zip(marks, (0, 2), strict=True):
        assert other.partition(mark)[part] == page.partition(mark)[part]
    assert "\n| a | b |\n<!--" in other
