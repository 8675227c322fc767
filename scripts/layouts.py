"""Largest difference of gradients of several processes from those of one, for every method, layout and adapter.

    python -m scripts.layouts

Real processes over gloo compute the first step of a small stage in float64 (`tests/parallel`). Writes the table of
docs/parallel.md, and exits with 1 if a difference is above 1e-10 or a case fails. A quarter of an hour on two cores.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from burnish.parallel.world import ONE_PROCESS
from burnish.watch.quiet import quiet_transformers
from scripts.families import PAGE as FAMILIES_PAGE
from tests.parallel.cases import ADAPTERS, LAYOUTS, METHODS, settings_of, write_cases
from tests.parallel.gradients import first_step, furthest
from tests.parallel.group import processes

PAGE = FAMILIES_PAGE.with_name("parallel.md")
BOUND = 1e-10
BEGIN, END = "<!-- layouts: python -m scripts.layouts -->\n", "<!-- end of layouts -->"


def rows() -> list[list[str]]:
    """Cells of the table, one row for each method."""
    found = []
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = write_cases(Path(place))
        sizes = {mesh.size for mesh in LAYOUTS.values()}
        groups = {size: stack.enter_context(processes(size)) for size in sorted(sizes)}
        for method in METHODS:
            differences: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
            for adapter in ADAPTERS:
                stage, settings = settings_of(method, adapter, folder)
                alone = first_step(ONE_PROCESS, folder, stage, settings)
                for layout, mesh in LAYOUTS.items():
                    ranks = groups[mesh.size](first_step, folder, stage, settings, mesh=mesh)
                    differences[layout].append(max(furthest(rank, alone) for rank in ranks))
            cells = [method, *(" / ".join(f"{each:.0e}" for each in of) for of in differences.values())]
            print("\t".join(cells), flush=True)
            found.append(cells)
    return found


def table(found: list[list[str]]) -> str:
    """The table of the page."""
    heads = ["method", *LAYOUTS]
    lines = [heads, ["---"] * len(heads), *found]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def replaced(page: str, text: str) -> str:
    """The page with this text between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + text + END + after


def main() -> None:
    """Prints the table, writes it into the page, and exits."""
    with quiet_transformers():
        found = rows()
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), table(found)), encoding="utf-8")
    sys.exit(any(not float(each) <= BOUND for _, *cells in found for cell in cells for each in cell.split(" / ")))


if __name__ == "__main__":
    main()
