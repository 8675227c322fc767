"""Reads from a run folder what a model card says about its run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.config.text import load_yaml
from burnish.export.card import RunFacts
from burnish.recipe.chain import numbered
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
        methods = (*_chain(recipe["stages"]), *methods)
        model = str(recipe["model"])
        place = Path(model).expanduser()
        earlier = find_run(str(place.parent if place.name == MODEL else place))
    return methods, model


def _chain(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Methods of the stages whose training is in the run's model, in order."""
    methods = [next(iter(stage)) for stage in stages]
    names = numbered([method.rpartition(":")[2] for method in methods])  # a user's stage is called by its class
    number, found = len(stages) - 1, list[str]()
    while number >= 0:
        found.insert(0, methods[number])
        start = stages[number][methods[number]].get("start_from")
        number = number - 1 if start is None else names.index(start)
    return found


def _metrics(path: Path) -> Iterator[tuple[str, float, float]]:
    """First and last value of the evaluation metrics and of the training loss."""
    series: dict[str, list[float]] = {}
    for line in read_metrics(path):
        for name, value in line.metrics.items() if isinstance(line, MetricsLine) else ():
            if (name.startswith("eval/") or name == "train/loss") and math.isfinite(value):
                series.setdefault(name, []).append(float(value))
    for name in sorted(series):
        yield name, series[name][0], series[name][-1]
