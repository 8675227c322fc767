"""Tables of docs/adapters.md, from the cases of the laws; ``python -m tests.model.adapters.table`` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from burnish.model.adapters.kinds import REFUSED
from tests.model.adapters.cases import CASES, Case

PAGE = Path(__file__).parents[3] / "docs" / "adapters.md"
BEGIN, END = "<!-- table: begin (tests/model/adapters/table.py) -->\n", "<!-- table: end -->\n"


def table() -> str:
    """Both tables: supported methods, and refused ones."""
    return "".join(line + "\n" for line in (*_rows(), "", *_refused()))


def page_with_table(page: str) -> str:
    """The page with current tables."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _rows() -> Iterator[str]:
    yield (
        "| method | adapter: | paper | trained numbers per matrix [out, in] | starts as the base | 4-bit base "
        "| 8-bit base | can be combined |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    yield from map(_row, CASES.values())


def _row(case: Case) -> str:
    four_bit, eight_bit = case.on_quantised, case.on_quantised and not case.settings.dora
    cells = (case.title, f"`{{{case.in_recipe}}}`", _paper(case.paper), case.formula, case.begins)
    return f"| {' | '.join((*cells, *(_yes(answer) for answer in (four_bit, eight_bit, case.combines))))} |"


def _paper(name: str) -> str:
    place = "arxiv.org/abs/" if name[0].isdigit() else "openreview.net/forum?id="
    return f"[{name}](https://{place}{name})"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _refused() -> Iterator[str]:
    yield "| peft's method | reason for refusal |"
    yield "| --- | --- |"
    yield from (f"| {name} | {reason} |" for name, reason in REFUSED.items())


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
