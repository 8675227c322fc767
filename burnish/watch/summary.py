"""Summary of a run as HTML for a notebook: headline metrics, alerts and the first curves, without scripts and styles of
the page around it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from burnish.watch.curves import HEIGHT, WIDTH
from burnish.watch.report import NAME, PAGE, read_stages

MAX_CURVES = 4
"""Number of curves of a stage; the report has all."""
MAX_ALERTS = 3
"""Number of alerts of a stage; the report has more."""


@dataclass(frozen=True, slots=True)
class Colors:
    """Colors of the series of a curve, readable on light and dark pages."""

    lines: tuple[str, ...] = ("#4477dd", "#dd7722", "#33aa66")

    def of(self, index: int) -> str:
        """Color of the series at an index."""
        return self.lines[index % len(self.lines)]


def summary_html(folder: Path) -> str:
    """HTML of a run folder; texts from files are escaped."""
    pages = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return pages.get_template("summary.html").render(
        title=folder.name,
        stages=read_stages(folder),
        report=folder / NAME,
        colors=Colors(),
        max_curves=MAX_CURVES,
        max_alerts=MAX_ALERTS,
        width=WIDTH,
        height=HEIGHT,
    )
