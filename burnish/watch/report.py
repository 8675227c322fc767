"""Writes report.html, a self-contained page about a run.

It reads a run folder at any time and omits what does not exist yet. All content from files is escaped by the template,
and the page's content security policy forbids every script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from burnish.errors import DivergenceError, Interrupted
from burnish.watch.curves import BUCKETS, HEIGHT, WIDTH, Curve, draw
from burnish.watch.format import brief, clock, percent, short
from burnish.watch.lines import read_lines, read_object

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
class GeneratedAnswer:
    """Answer of the model at some step."""

    step: int
    response: str
    correct: bool | None
    """None: not graded."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Prompt with its answers before and after training."""

    prompt: str
    reference: str | None
    """The right answer, or one; None: there is none."""
    answers: tuple[GeneratedAnswer, ...]
    """The first and the last answer, or the only one."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Rollout of training."""

    step: int
    kind: str
    """Best, worst, most surprising."""
    prompt: str
    response: str
    reward: float
    advantage: float | None
    """None: its group was left out."""
    parts: Sequence[tuple[str, str]]
    """Name and formatted outcome of each reward."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """Content of the page about one stage."""

    name: str
    steps: int
    headlines: Sequence[Headline]
    curves: Sequence[Curve]
    alerts: Sequence[Mapping[str, Any]]
    num_alerts: int
    samples: Sequence[Sample]
    num_samples: int
    rollouts: Sequence[Rollout]


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
    finished = (folder / "finished.json").exists()
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
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    recipe = _recipe(folder / "recipe.yaml")
    return pages.get_template("report.html").render(
        title=folder.name,
        model=next((line.text.partition(": ")[2] for line in recipe if line.text.startswith("model: ")), ""),
        state=state,
        written=time.strftime("%Y-%m-%d %H:%M"),
        stages=read_stages(folder),
        recipe=recipe,
        data=read_object(folder / "data.json").get("stages", []),
        environment=read_object(folder / "environment.json"),
        style=Markup((PAGE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        buckets=BUCKETS,
        width=WIDTH,
        height=HEIGHT,
    )


def read_stages(folder: Path) -> list[StageReport]:
    """Stages in the order in which they ran, also one that has only samples."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_lines(folder / "metrics.jsonl"):
        lines.setdefault(str(line.get("stage")), []).append(line)
    samples: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_lines(folder / "samples.jsonl"):
        samples.setdefault(str(line.get("stage")), []).append(line)
    return [_stage(name, lines.get(name, []), samples.get(name, [])) for name in dict.fromkeys([*lines, *samples])]


def _stage(name: str, lines: Sequence[Mapping[str, Any]], sample_lines: Sequence[Mapping[str, Any]]) -> StageReport:
    alerts = [line for line in lines if "alert" in line]
    pairs = pair_samples(sample_lines)
    return StageReport(
        name=name,
        steps=max((int(line["step"]) for line in lines), default=0),
        headlines=headlines(lines),
        curves=draw(lines),
        alerts=alerts[:MAX_ALERTS],
        num_alerts=len(alerts),
        samples=pairs[:MAX_SAMPLES],
        num_samples=len(pairs),
        rollouts=newest_rollouts(sample_lines),
    )


def headlines(lines: Sequence[Mapping[str, Any]]) -> list[Headline]:
    """Headline metrics: results before and after training, then time, speed and memory."""
    items = [
        _before_and_after("Held-out loss", lines, "eval/loss", short),
        _before_and_after("Accuracy", lines, "eval/accuracy", percent),
        _before_and_after("Pair accuracy", lines, "eval/pair_accuracy", percent),
        _before_and_after("Held-out reward", lines, "eval/reward", short),
    ]
    trained = [line for line in lines if _number(line, "train/loss") is not None]
    losses = [line["train/loss"] for line in trained]
    is_rl = any("rollout/reward" in line for line in lines)  # the value of a policy gradient loss has no meaning
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


def pair_samples(lines: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """First and last answer to each prompt, by index. Incomplete lines are skipped."""
    complete = [line for line in lines if isinstance(line.get("index"), int) and isinstance(line.get("step"), int)]
    pairs = []
    for _, group in groupby(
        sorted(complete, key=lambda line: (line["index"], line["step"])), lambda line: line["index"]
    ):
        ordered = list(group)
        first, last = ordered[0], ordered[-1]
        ends = [first, last] if first["step"] < last["step"] else [last]
        answers = tuple(
            GeneratedAnswer(line["step"], str(line.get("response", "")), line.get("correct")) for line in ends
        )
        reference = last.get("reference")
        pairs.append(Sample(str(last.get("prompt", "")), None if reference is None else str(reference), answers))
    return pairs


def newest_rollouts(lines: Sequence[Mapping[str, Any]]) -> list[Rollout]:
    """Last rollouts, the newest first. Incomplete lines are skipped."""
    complete = [line for line in lines if isinstance(line.get("rollout"), str) and _number(line, "reward") is not None]
    return [
        Rollout(
            step=int(line["step"]),
            kind=str(line["rollout"]),
            prompt=str(line.get("prompt", "")),
            response=str(line.get("response", "")),
            reward=line["reward"],
            advantage=_number(line, "advantage"),
            parts=[(name, _outcome(value)) for name, value in dict(line.get("parts") or {}).items()],
        )
        for line in complete[: -MAX_ROLLOUTS - 1 : -1]
    ]


def _outcome(value: object) -> str:
    return short(value) if isinstance(value, int | float) else "not graded" if value is None else str(value)


def _before_and_after(
    title: str, lines: Sequence[Mapping[str, Any]], key: str, write: Callable[[float], str]
) -> Headline | None:
    """Headline of a held-out metric before and after training; None: it was not measured."""
    values = [value for line in lines if (value := _number(line, key)) is not None]
    if not values:
        return None
    return Headline(title, write(values[-1]), write(values[0]) if len(values) > 1 else "")


def _number(line: Mapping[str, Any], key: str) -> float | None:
    value = line.get(key)
    return value if isinstance(value, int | float) else None


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
