"""The tables in docs/adapters.md, made of the laws' cases; ``python -m tests.model.adapters.table`` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from burnish.model.adapters.kinds import REFUSED
from tests.model.adapters.cases import CASES, Case

PAGE = Path(__file__).parents[3] / "docs" / "adapters.md"
BEGIN, END = "<!-- table: begin (tests/model/adapters/table.py) -->\n", "<!-- table: end -->\n"


def table() -> str:
    """Both tables: what there is, and what is refused."""
    return "".join(line + "\n" for line in (*_rows(), "", *_refused()))


def page_with_table(page: str) -> str:
    """The page with its tables made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _rows() -> Iterator[str]:
    yield (
        "| method | adapter: | paper | trained beside a matrix [out, in] | begins as the base | 4-bit base "
        "| 8-bit base | several → one |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    yield from map(_row, CASES.values())


def _row(case: Case) -> str:
    four, eight = case.on_quantised, case.on_quantised and not case.settings.dora
    cells = (case.title, f"`{{{case.in_recipe}}}`", _paper(case.paper), case.formula, case.begins)
    return f"| {' | '.join((*cells, *(_yes(each) for each in (four, eight, case.combines))))} |"


def _paper(name: str) -> str:
    place = "arxiv.org/abs/" if name[0].isdigit() else "openreview.net/forum?id="
    return f"[{name}](https://{place}{name})"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _refused() -> Iterator[str]:
    yield "| peft's method | why it is refused |"
    yield "| --- | --- |"
    yield from (f"| {name} | {reason} |" for name, reason in REFUSED.items())


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
