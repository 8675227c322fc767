"""Curves of a run's metrics as a figure of matplotlib, which is an optional extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from burnish.errors import RunError
from burnish.watch.curves import Point, collect
from burnish.watch.format import metric_format, rank
from burnish.watch.journal_lines import MetricsLine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CURVES = 4
"""Number of metrics that are drawn if none is named."""
_WIDTH, _HEIGHT = 7.0, 2.6
"""Size of one curve, inches."""

Series = Mapping[str, Sequence[Point]]
"""Label → points."""


def plot_metrics(lines: Sequence[MetricsLine], names: Sequence[str] = ()) -> Figure:
    """Figure with a curve for each metric, by step.

    Args:
        lines: lines of metrics.jsonl, of one stage or several.
        names: metrics, with or without their prefix (``loss`` is ``train/loss`` and ``eval/loss``); (): the most
            important ones.

    Raises:
        RunError: matplotlib is not installed, or no line has such a metric.
    """
    pyplot = _pyplot()
    known = _known(lines)
    chosen = list(names) or sorted((name for name in known if "/" not in name), key=rank)[:MAX_CURVES]
    for name in chosen:
        if name not in known:
            raise RunError(
                given=f"a curve of {name}",
                rule=f"the run has the metrics {', '.join(sorted(known))}",
                remedy="name some of them (docs/glossary.md)",
            )
    if not chosen:
        raise RunError(
            given="curves of a run without metrics",
            rule="a curve has at least one step",
            remedy="plot it once steps are done",
        )
    figure, axes = pyplot.subplots(len(chosen), 1, figsize=(_WIDTH, _HEIGHT * len(chosen)), squeeze=False)
    for axis, name in zip(axes[:, 0], chosen, strict=True):
        _draw(axis, name, known[name])
    figure.tight_layout()
    pyplot.close(figure)  # a notebook shows the figure that is returned, and no second one
    return figure


def _known(lines: Sequence[MetricsLine]) -> Mapping[str, Series]:
    """Every name by which a metric may be named → its series, of each stage and prefix."""
    stages = list(dict.fromkeys(line.stage for line in lines))
    known: dict[str, dict[str, Sequence[Point]]] = {}
    for stage in stages:
        for bare, by_prefix in collect(line for line in lines if line.stage == stage).items():
            for prefix, points in by_prefix.items():
                label = " ".join(word for word in (stage if len(stages) > 1 else "", prefix) if word)
                for name in {bare, f"{prefix}/{bare}" if prefix else bare}:
                    known.setdefault(name, {})[label] = points
    return known


def _draw(axis: Any, name: str, series: Series) -> None:
    """Draws the series of one metric."""
    for label, points in series.items():
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, label=label or None, marker="." if len(points) <= 40 else None)
    axis.set_title(metric_format(name.removeprefix("train/").removeprefix("eval/")).title, loc="left")
    axis.set_xlabel("step")
    if len(series) > 1:
        axis.legend()


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot  # an optional extra
    except ImportError as error:
        raise RunError(
            given="plot() without matplotlib",
            rule="a figure is one of the package matplotlib, which is not installed",
            remedy="pip install 'burnish[plot]', or open report.html, which has all curves",
        ) from error
    return pyplot
