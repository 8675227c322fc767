"""Writes the tables of docs/coming-from.md from the tables behind "did you mean".

    python -m scripts.coming_from

The keys of each tool are in `burnish.settings.other_tools`, the answers in `burnish.settings.aliases`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from burnish.config.settings import keys
from burnish.recipe.recipe import recipe_of
from burnish.settings.aliases import OTHER_OPTIMIZERS, OTHER_SCHEDULES, OTHER_TOOLS, RENAMED
from burnish.settings.other_names import ADAPTERS, ALGORITHMS, DTYPES, LOSSES
from burnish.settings.other_tools import TOOLS, Tool
from burnish.stages.registry import BUILTIN

PAGE = Path(__file__).parents[1] / "docs" / "coming-from.md"
VALUES = {
    "optimizer.kind": OTHER_OPTIMIZERS,
    "schedule.kind": OTHER_SCHEDULES,
    "loss": LOSSES,
    "algorithm": ALGORITHMS,
    "adapter.kind": ADAPTERS,
    "dtype": DTYPES,
}
"""Our key → names of its values in other tools."""
OF_RECIPE = {key for key in keys(recipe_of(BUILTIN)) if not key.startswith("stages.")}
OURS = OF_RECIPE | {key for entry in BUILTIN.values() for key in keys(entry.settings())}
"""All dotted keys; a list's entries are written ``*``."""


def our_key(name: str) -> str | None:
    """Our dotted key of this last part, the one with the fewest dots; None: there is none."""
    same = [key for key in OURS if key.rpartition(".")[2] == name]
    return min(same, key=lambda key: ("*" in key, key.count("."), key), default=None)


def answer(tool: Tool, key: str) -> str:
    """What to write here for a key of a tool, with our keys as code.

    Raises:
        KeyError: nothing answers the key.
    """
    if key in tool.remarks:
        return as_code(tool.remarks[key])
    if ours := our_key(key):
        return _shown(ours)
    return _shown(RENAMED[key]) if key in RENAMED else as_code(OTHER_TOOLS[key])


def _shown(key: str) -> str:
    if "*" in key:
        return f"`{key.rpartition('.')[2]}`, in a source of `{key.partition('.')[0]}`"
    return f"`{key}`{', at the top of the recipe' if key in OF_RECIPE else ''}"


def as_code(text: str) -> str:
    """The text with our keys in backticks, and with those that would be read as a table's border escaped."""

    def mark(match: re.Match[str]) -> str:
        word = match[0]
        is_name = match.start() == 0 or "_" in word or "." in word
        return f"`{word}`" if is_name and word in OURS else word

    outside = [part if number % 2 else re.sub(r"[a-z]\w*(?:\.[a-z]\w*)*", mark, part) for number, part in _code(text)]
    return "".join(outside).replace("|", "\\|")


def _code(text: str) -> Iterator[tuple[int, str]]:
    """Parts of a text with their numbers; those with odd numbers are code already, their backticks included."""
    return enumerate(re.split(r"(`[^`]*`)", text))


def rows(tool: Tool) -> Iterator[str]:
    """Rows of a tool's table: a row for each topic, then one for all keys with the same answer."""
    for topic, names in tool.keys.items():
        yield f"| **{topic}** | |"
        answers: dict[str, list[str]] = {}
        for name in names:
            answers.setdefault(answer(tool, name), []).append(f"`{name}`")
        yield from (f"| {', '.join(same)} | {text} |" for text, same in answers.items())


def value_rows() -> Iterator[str]:
    """Rows of the table of values."""
    for key, values in VALUES.items():
        answers: dict[str, list[str]] = {}
        for theirs, ours in values.items():
            answers.setdefault(ours, []).append(f"`{theirs}`")
        yield from (f"| {', '.join(names)} | `{key}` | {as_code(ours)} |" for ours, names in answers.items())


def table(heading: str, lines: Iterator[str], summary: str) -> str:
    """A table that is folded below its summary."""
    rows_of_table = "\n".join([heading, "| --- " * heading.count(" |") + "|", *lines])
    return f"<details><summary>{summary}</summary>\n\n{rows_of_table}\n\n</details>\n"


def replaced(page: str, name: str, text: str) -> str:
    """The page with this text between the marks of this name."""
    begin, end = f"<!-- {name}: python -m scripts.coming_from -->\n", f"<!-- end of {name} -->"
    assert begin in page, f"the page has the marks of {name}"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}{text}{end}{rest.partition(end)[2]}"


def written(page: str) -> str:
    """The page with all tables."""
    for name, tool in TOOLS.items():
        summary = f"<b>{len(set(tool.all_keys))} keys of {tool.name}, and what to write here</b>"
        page = replaced(page, name, table(f"| {tool.name} | here |", rows(tool), summary))
    return replaced(
        page, "values", table("| there | key | here |", value_rows(), "<b>Values with other names here</b>")
    )


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
