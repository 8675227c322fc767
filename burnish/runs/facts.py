"""Reads from a run folder what a model card says about its run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from burnish.config.text import load_yaml
from burnish.export.card import RunFacts
from burnish.run_files import LOG, METRICS, MODEL, RECIPE
from burnish.runs.named_model import find_run
from burnish.watch.journal_lines import MetricsLine, read_metrics

_DATA_LINE = re.compile(r"^\S+ \S+ (?P<counts>.+: [\d,]+ rows \(.*)$")


def read_facts(name: str) -> RunFacts | None:
    """Facts about the finished run of that name; None: the name is no run folder."""
    run = find_run(name)
    if run is None:
        return None
    methods, model = _origin(run)
    log = (run / LOG).read_text(encoding="utf-8") if (run / LOG).exists() else ""
    matches = (_DATA_LINE.match(line) for line in log.splitlines())
    data = tuple(dict.fromkeys(match["counts"] for match in matches if match))
    text = (run / RECIPE).read_text(encoding="utf-8")
    return RunFacts(methods, model, text, data, tuple(_metrics(run / METRICS)))


def _origin(run: Path) -> tuple[tuple[str, ...], str]:
    """Methods of a run after those of the runs that its model comes from, and the model before all of them."""
    methods: tuple[str, ...] = ()
    model, seen = "", set[Path]()
    earlier: Path | None = run
    while earlier is not None and earlier not in seen and (earlier / RECIPE).is_file():
        seen.add(earlier)
        recipe = load_yaml(earlier / RECIPE)
        methods = (*(next(iter(stage)) for stage in recipe["stages"]), *methods)
        model = str(recipe["model"])
        place = Path(model).expanduser()
        earlier = find_run(str(place.parent if place.name == MODEL else place))
    return methods, model


def _metrics(path: Path) -> Iterator[tuple[str, float, float]]:
    """First and last value of the evaluation metrics and of the training loss."""
    series: dict[str, list[float]] = {}
    for line in read_metrics(path):
        for name, value in line.metrics.items() if isinstance(line, MetricsLine) else ():
            if (name.startswith("eval/") or name == "train/loss") and math.isfinite(value):
                series.setdefault(name, []).append(float(value))
    for name in sorted(series):
        yield name, series[name][0], series[name][-1]
