"""Self-contained HTML pages with tables, of the profile of a data set and of the audit of code tasks."""

from __future__ import annotations

import html
from collections.abc import Sequence

TEXT, GRAY, ACCENT, GRID = "#1f2430", "#6b7280", "#c44e52", "#e5e7eb"
"""Colors, which pictures on the pages share."""


def html_page(title: str, body: str) -> str:
    """The page.

    Args:
        title: plain text.
        body: HTML that follows the title.
    """
    head = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{head}</title><style>{_STYLE}</style>'
        f"<h1>{head}</h1>{body}</html>\n"
    )


def html_list(lines: Sequence[str]) -> str:
    """List of lines of plain text."""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def html_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, prose: bool = False) -> str:
    """Table of plain text with a title; numbers stand at the right of a cell.

    Args:
        title: text above it.
        head: names of the columns.
        rows: cells.
        prose: whether cells have sentences, which stand at the left and are broken into lines.
    """
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    opened = "<table class=prose>" if prose else "<table>"
    return f"<h2>{html.escape(title)}</h2>{opened}<tr>{top}</tr>{body}</table>"


_STYLE = (
    f"body{{font:15px/1.5 system-ui,sans-serif;color:{TEXT};max-width:1000px;margin:2rem auto;padding:0 1rem}}"
    f"img{{width:100%}}table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}h2{{font-size:1.1rem}}"
    f"th,td{{padding:.25rem .8rem;text-align:right;border-bottom:1px solid {GRID};white-space:nowrap}}"
    f"th{{color:{GRAY};font-weight:500}}th:first-child,td:first-child{{text-align:left}}"
    f".best{{border-left:4px solid {ACCENT};padding-left:.8rem}}td:last-child:not(:first-child){{color:{TEXT}}}"
    f".prose th,.prose td{{text-align:left;vertical-align:top;white-space:normal;overflow-wrap:anywhere}}"
)
