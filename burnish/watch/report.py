"""report.html: a run on one page that needs nothing beside it, for whoever was not there.

Reads a run folder as it is at any moment and tolerates whatever is not there yet. What came from files is data:
the template escapes all of it, and the page forbids itself every script but its own.
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
MOST_SAMPLES = 24
"""Pairs of samples on the page; samples.jsonl has them all."""
MOST_TEXT = 4000
"""Characters of one text on the page."""
MOST_ALERTS = 30
MOST_ROLLOUTS = 9
"""Responses on the page that were written to learn from them, the newest."""
ENDS = 10
"""Steps whose mean is the training loss at the beginning and the end, where nothing is held out."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
_LINES = re.compile(r"\n{4,}")


@dataclass(frozen=True, slots=True)
class Headline:
    """One large figure."""

    title: str
    value: str
    before: str = ""
    """What it was before training; "": it has no before."""


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """What the model answered at some step."""

    step: int
    response: str
    correct: bool | None
    """None: nobody judged."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt, answered before and after."""

    prompt: str
    reference: str | None
    """The right answer, or one; None: there is none."""
    answers: tuple[GeneratedAnswer, ...]
    """The first and the last, or the only one."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A response that was written to learn from it."""

    step: int
    why: str
    """Best, worst, most surprising."""
    prompt: str
    response: str
    reward: float
    advantage: float | None
    """None: its group was left out."""
    parts: Sequence[tuple[str, str]]
    """Name of each reward, and what it said."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """What is shown of one stage."""

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
    """A line of the recipe."""

    text: str
    origin: str
    """Where its value comes from; "": it only opens a group."""


def ending(error: BaseException | None) -> State:
    """How a stage stands that ended so; None: it came to its end, but the run goes on."""
    if error is None:
        return "running"
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    return "diverged" if isinstance(error, DivergenceError) else "failed"


def refresh_report(folder: Path, state: State, say: Callable[[str], None]) -> None:
    """Writes the report, or says why it cannot be written: a full disk must not end a run for its sake."""
    try:
        write_report(folder, state)
    except OSError as error:
        say(f"{NAME} cannot be written: {error.strerror}")


def write_report(folder: Path, state: State | None = None) -> Path:
    """Writes report.html into a run folder, whole or not at all, and returns its path.

    Args:
        folder: the run folder.
        state: how the run stands; None: as its files say, finished or not.

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
    # StrictUndefined: a name that the template has and we do not is a mistake of ours, not an empty place.
    pages = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters |= {"shown": _shown, "count": "{:,}".format, "percent": percent, "short": short}
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
    """The stages in the order in which they ran; also one that has only samples."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_lines(folder / "metrics.jsonl"):
        lines.setdefault(str(line.get("stage")), []).append(line)
    samples: dict[str, list[Mapping[str, Any]]] = {}
    for line in read_lines(folder / "samples.jsonl"):
        samples.setdefault(str(line.get("stage")), []).append(line)
    return [_stage(name, lines.get(name, []), samples.get(name, [])) for name in dict.fromkeys([*lines, *samples])]


def _stage(name: str, lines: Sequence[Mapping[str, Any]], sampled: Sequence[Mapping[str, Any]]) -> StageReport:
    alerts = [line for line in lines if "alert" in line]
    pairs = pair_samples(sampled)
    return StageReport(
        name=name,
        steps=max((int(line["step"]) for line in lines), default=0),
        headlines=headlines(lines),
        curves=draw(lines),
        alerts=alerts[:MOST_ALERTS],
        num_alerts=len(alerts),
        samples=pairs[:MOST_SAMPLES],
        num_samples=len(pairs),
        rollouts=newest_rollouts(sampled),
    )


def headlines(lines: Sequence[Mapping[str, Any]]) -> list[Headline]:
    """What one wants to know first: what became better, and what it took."""
    shown = [
        _held_out("Held-out loss", lines, "eval/loss", short),
        _held_out("Accuracy", lines, "eval/accuracy", percent),
        _held_out("Pairs right", lines, "eval/pair_accuracy", percent),
        _held_out("Held-out reward", lines, "eval/reward", short),
    ]
    trained = [line for line in lines if _number(line, "train/loss") is not None]
    losses = [line["train/loss"] for line in trained]
    tries = any("rollout/reward" in line for line in lines)  # a policy gradient's value is 0, whatever is learned
    if shown[0] is None and losses and not tries:
        first, last = statistics.fmean(losses[:ENDS]), statistics.fmean(losses[-ENDS:])
        shown[0] = Headline("Training loss", short(last), short(first))
    seconds = [_number(line, "seconds_per_step") or 0.0 for line in trained]
    tokens = sum(took * (_number(line, "tokens_per_second") or 0) for took, line in zip(seconds, trained, strict=True))
    work = sum(took * (_number(line, "mfu") or 0) for took, line in zip(seconds, trained, strict=True))
    if time_spent := sum(seconds):
        shown += [
            Headline("Tokens", _large(tokens)),
            Headline("Training time", clock(time_spent)),
            Headline("Tokens/s", _large(tokens / time_spent)),
            Headline("Utilisation", percent(work / time_spent)),
        ]
    memory = [value for line in trained if (value := _number(line, "memory_gib")) is not None]
    if memory:
        shown.append(Headline("Memory", f"{brief(max(memory))} GiB"))
    return [headline for headline in shown if headline is not None]


def pair_samples(lines: Sequence[Mapping[str, Any]]) -> list[Sample]:
    """The first and the last answer to each prompt, by index. Lines that lack what is needed are left out."""
    whole = [line for line in lines if isinstance(line.get("index"), int) and isinstance(line.get("step"), int)]
    pairs = []
    for _, group in groupby(sorted(whole, key=lambda line: (line["index"], line["step"])), lambda line: line["index"]):
        found = list(group)
        ends = [found[0], found[-1]] if found[0]["step"] < found[-1]["step"] else [found[-1]]
        answers = tuple(
            GeneratedAnswer(line["step"], str(line.get("response", "")), line.get("correct")) for line in ends
        )
        reference = found[-1].get("reference")
        pairs.append(Sample(str(found[-1].get("prompt", "")), None if reference is None else str(reference), answers))
    return pairs


def newest_rollouts(lines: Sequence[Mapping[str, Any]]) -> list[Rollout]:
    """The last ones, the newest first. Lines that lack what is needed are left out."""
    whole = [line for line in lines if isinstance(line.get("rollout"), str) and _number(line, "reward") is not None]
    return [
        Rollout(
            step=int(line["step"]),
            why=str(line["rollout"]),
            prompt=str(line.get("prompt", "")),
            response=str(line.get("response", "")),
            reward=line["reward"],
            advantage=_number(line, "advantage"),
            parts=[(name, _outcome(said)) for name, said in dict(line.get("parts") or {}).items()],
        )
        for line in whole[: -MOST_ROLLOUTS - 1 : -1]
    ]


def _outcome(said: object) -> str:
    return short(said) if isinstance(said, int | float) else "not judged" if said is None else str(said)


def _held_out(
    title: str, lines: Sequence[Mapping[str, Any]], key: str, write: Callable[[float], str]
) -> Headline | None:
    """Before training and after it; None: it was not measured."""
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
    """The resolved recipe by lines, each with the origin that it has as a comment."""
    if not path.exists():
        return []
    split = (line.rpartition("  # ") for line in path.read_text(encoding="utf-8").splitlines())
    return [Setting(text, origin) if text else Setting(origin, "") for text, _, origin in split]


def _shown(text: object) -> str:
    """A text of bearable length, in which control characters and runs of empty lines can be seen."""
    whole = str(text)
    more = len(whole) - MOST_TEXT
    cut = f"{whole[:MOST_TEXT]} … ({more:,} more characters)" if more > 0 else whole
    lines = _LINES.sub(lambda found: f"\n↵ × {len(found[0])}\n", cut)
    return _CONTROL.sub(lambda found: chr(0x2400 + ord(found[0])), lines)
