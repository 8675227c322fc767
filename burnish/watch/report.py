"""Writes report.html, a self-contained page about a run.

It reads a run folder at any time and omits what does not exist yet. All content from files is escaped by the template,
and the page's content security policy forbids every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from burnish.errors import DivergenceError, Interrupted
from burnish.run_files import DATA, ENVIRONMENT, FINISHED, METRICS, RECIPE, SAMPLES
from burnish.watch.curves import BUCKETS, HEIGHT, WIDTH, Curve, draw
from burnish.watch.format import brief, clock, percent, short
from burnish.watch.journal_lines import (
    AlertLine,
    EvalSample,
    MetricsLine,
    RolloutSample,
    SampleLine,
    read_metrics,
    read_samples,
)
from burnish.watch.json_files import read_object

State = Literal["running", "finished", "interrupted", "diverged", "failed"]
NAME = "report.html"
PAGE = Path(__file__).parent / "page"
MAX_SAMPLES = 24
"""Limit of samples on the page; samples.jsonl has all."""
MAX_TEXT = 4000
"""Limit of a text on the page, characters."""
MAX_ALERTS = 30
MAX_ROLLOUTS = 9
"""Limit of rollouts on the page, the newest ones."""
ENDS = 10
"""Steps over which the first and the last training loss are averaged, for stages without held-out data."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
_LINES = re.compile(r"\n{4,}")


@dataclass(frozen=True, slots=True)
class Headline:
    """Metric in large type at the top of a stage."""

    title: str
    value: str
    before: str = ""
    """Value before training; "": not applicable."""


@dataclass(frozen=True, slots=True)
class PromptSamples:
    """Held-out prompt with its responses before and after training."""

    prompt: str
    reference: str | None
    """The right answer, or one; None: there is none."""
    responses: tuple[tuple[int, EvalSample], ...]
    """Steps and samples: the first and the last, or the only one."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """Content of the page about one stage."""

    name: str
    steps: int
    headlines: Sequence[Headline]
    curves: Sequence[Curve]
    alerts: Sequence[AlertLine]
    num_alerts: int
    samples: Sequence[PromptSamples]
    num_samples: int
    rollouts: Sequence[tuple[int, RolloutSample]]
    """Steps and samples, the newest first."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Line of the recipe."""

    text: str
    origin: str
    """Origin of its value; "": the line has no value."""


def ending(error: BaseException | None) -> State:
    """State of a run by the error that ended a stage; None: the stage finished, and the run continues."""
    if error is None:
        return "running"
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    return "diverged" if isinstance(error, DivergenceError) else "failed"


def refresh_report(folder: Path, state: State, say: Callable[[str], None]) -> None:
    """Writes the report, or reports why it cannot be written, since a failed report must not end a run."""
    try:
        write_report(folder, state)
    except OSError as error:
        say(f"{NAME} cannot be written: {error.strerror}")


def write_report(folder: Path, state: State | None = None) -> Path:
    """Writes report.html into a run folder atomically, and returns its path.

    Args:
        folder: the run folder.
        state: of the run; None: finished or interrupted, by its files.

    Raises:
        OSError: it cannot be written.
    """
    finished = (folder / FINISHED).exists()
    page = _render(folder, state or ("finished" if finished else "interrupted"))
    partial = folder / f".{NAME}.partial"
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, folder / NAME)
    finally:
        partial.unlink(missing_ok=True)
    return folder / NAME


def _render(folder: Path, state: State) -> str:
    # StrictUndefined: a name that only the template has is a mistake of ours and raises an error.
    pages = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters |= {"readable": _readable, "count": "{:,}".format, "percent": percent, "short": short}
    pages.filters["outcome"] = _outcome
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    recipe = _recipe(folder / RECIPE)
    return pages.get_template("report.html").render(
        title=folder.name,
        model=next((line.text.partition(": ")[2] for line in recipe if line.text.startswith("model: ")), ""),
        state=state,
        written=time.strftime("%Y-%m-%d %H:%M"),
        stages=read_stages(folder),
        recipe=recipe,
        data=read_object(folder / DATA).get("stages", []),
        environment=read_object(folder / ENVIRONMENT),
        style=Markup((PAGE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        buckets=BUCKETS,
        width=WIDTH,
        height=HEIGHT,
    )


def read_stages(folder: Path) -> list[StageReport]:
    """Stages in the order in which they ran, also one that has only samples."""
    lines: dict[str, list[MetricsLine | AlertLine]] = {}
    for line in read_metrics(folder / METRICS):
        lines.setdefault(line.stage, []).append(line)
    samples: dict[str, list[SampleLine]] = {}
    for sample in read_samples(folder / SAMPLES):
        samples.setdefault(sample.stage, []).append(sample)
    return [_stage(name, lines.get(name, []), samples.get(name, [])) for name in dict.fromkeys([*lines, *samples])]


def _stage(name: str, lines: Sequence[MetricsLine | AlertLine], samples: Sequence[SampleLine]) -> StageReport:
    metrics = [line for line in lines if isinstance(line, MetricsLine)]
    alerts = [line for line in lines if isinstance(line, AlertLine)]
    prompts = pair_samples(samples)
    return StageReport(
        name=name,
        steps=max((line.step for line in lines), default=0),
        headlines=headlines(metrics),
        curves=draw(metrics),
        alerts=alerts[:MAX_ALERTS],
        num_alerts=len(alerts),
        samples=prompts[:MAX_SAMPLES],
        num_samples=len(prompts),
        rollouts=newest_rollouts(samples),
    )


def headlines(lines: Sequence[MetricsLine]) -> list[Headline]:
    """Headline metrics: results before and after training, then time, speed and memory."""
    items = [
        _before_and_after("Held-out loss", lines, "eval/loss", short),
        _before_and_after("Accuracy", lines, "eval/accuracy", percent),
        _before_and_after("Pair accuracy", lines, "eval/pair_accuracy", percent),
        _before_and_after("Held-out reward", lines, "eval/reward", short),
    ]
    trained = [line for line in lines if _number(line, "train/loss") is not None]
    losses = [line.metrics["train/loss"] for line in trained]
    is_rl = any(
        "rollout/reward" in line.metrics for line in lines
    )  # the value of a policy gradient loss has no meaning
    if items[0] is None and losses and not is_rl:
        first, last = statistics.fmean(losses[:ENDS]), statistics.fmean(losses[-ENDS:])
        items[0] = Headline("Training loss", short(last), short(first))
    seconds = [_number(line, "seconds_per_step") or 0.0 for line in trained]
    timed = list(zip(seconds, trained, strict=True))
    tokens = sum(duration * (_number(line, "tokens_per_second") or 0) for duration, line in timed)
    work = sum(duration * (_number(line, "mfu") or 0) for duration, line in timed)
    if time_spent := sum(seconds):
        items += [
            Headline("Tokens", _large(tokens)),
            Headline("Training time", clock(time_spent)),
            Headline("Tokens/s", _large(tokens / time_spent)),
            Headline("MFU", percent(work / time_spent)),
        ]
    memory = [value for line in trained if (value := _number(line, "memory_gib")) is not None]
    if memory:
        items.append(Headline("Peak memory", f"{brief(max(memory))} GiB"))
    return [headline for headline in items if headline is not None]


def pair_samples(lines: Sequence[SampleLine]) -> list[PromptSamples]:
    """First and last response to each held-out prompt, by index."""
    evaluated = [(line.step, line.sample) for line in lines if isinstance(line.sample, EvalSample)]
    pairs = []
    for _, group in groupby(sorted(evaluated, key=lambda pair: (pair[1].index, pair[0])), lambda pair: pair[1].index):
        ordered = list(group)
        first, last = ordered[0], ordered[-1]
        ends = (first, last) if first[0] < last[0] else (last,)
        pairs.append(PromptSamples(last[1].prompt, last[1].reference, ends))
    return pairs


def newest_rollouts(lines: Sequence[SampleLine]) -> list[tuple[int, RolloutSample]]:
    """Steps and samples of the last rollouts, the newest first."""
    rollouts = [(line.step, line.sample) for line in lines if isinstance(line.sample, RolloutSample)]
    return rollouts[: -MAX_ROLLOUTS - 1 : -1]


def _outcome(value: object) -> str:
    return short(value) if isinstance(value, int | float) else "not graded" if value is None else str(value)


def _before_and_after(
    title: str, lines: Sequence[MetricsLine], key: str, write: Callable[[float], str]
) -> Headline | None:
    """Headline of a held-out metric before and after training; None: it was not measured."""
    values = [value for line in lines if (value := _number(line, key)) is not None]
    if not values:
        return None
    return Headline(title, write(values[-1]), write(values[0]) if len(values) > 1 else "")


def _number(line: MetricsLine, name: str) -> float | None:
    """Finite value of a metric; None: the line has none."""
    value = line.metrics.get(name)
    return value if value is not None and math.isfinite(value) else None


def _large(count: float) -> str:
    """Example: 12.3 million."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:.3g} {word}"
    return f"{count:,.0f}"


def _recipe(path: Path) -> list[Setting]:
    """Lines of the resolved recipe, each with the origin in its comment."""
    if not path.exists():
        return []
    split = (line.rpartition("  # ") for line in path.read_text(encoding="utf-8").splitlines())
    return [Setting(text, origin) if text else Setting(origin, "") for text, _, origin in split]


def _readable(text: object) -> str:
    """Text of limited length, with control characters and runs of empty lines made visible."""
    whole = str(text)
    more = len(whole) - MAX_TEXT
    cut = f"{whole[:MAX_TEXT]} … ({more:,} more characters)" if more > 0 else whole
    lines = _LINES.sub(lambda match: f"\n↵ × {len(match[0])}\n", cut)
    return _CONTROL.sub(lambda match: chr(0x2400 + ord(match[0])), lines)
