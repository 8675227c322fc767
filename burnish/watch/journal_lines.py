"""Lines of the journals metrics.jsonl and samples.jsonl: a record per kind of line, for those who write and who read.

`to_line` gives the JSON object of a record; `read_metrics` and `read_samples` give the records of a file. A reader
ignores fields that it does not know, takes the default of an optional field that is missing, and skips lines that are
no record, such as an incomplete last line. NaN and infinities are null in a file, and come back as NaN::

    {"stage": "sft", "step": 8, "epoch": 0.5, "train/loss": 1.25}                        MetricsLine
    {"stage": "sft", "step": 8, "alert": "slowness", "message": "…", "count": 1}         AlertLine
    {"stage": "sft", "step": 8, "index": 3, "prompt": "…", "response": "…", …}           SampleLine of an EvalSample
    {"stage": "rl", "step": 8, "rollout": "best", "row": 3, "prompt": "…", …}            SampleLine of a RolloutSample
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from burnish.watch.json_files import read_lines

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class MetricsLine:
    """Metrics of an optimizer step, or of an evaluation after it: a line of metrics.jsonl."""

    stage: str
    step: int
    """Number of optimizer steps done; 0: before the first."""
    metrics: Mapping[str, float]
    """Name → value, in the order of the file. Of a step: the counters of `RunCounters`, ``train/…``, ``rollout/…`` if
    it has new rollouts, and the speeds of `Meter`. Of an evaluation: ``eval/…``."""

    def to_line(self) -> dict[str, Any]:
        """The line's JSON object."""
        return {"stage": self.stage, "step": self.step, **self.metrics}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self | None:
        """Record of a line; values that are no numbers are left out. None: it has no stage or step, or is an alert."""
        if "alert" in line or not _has_place(line):
            return None
        values = {name: math.nan if value is None else value for name, value in line.items() if name != "step"}
        numbers = {name: value for name, value in values.items() if type(value) in (int, float)}
        return cls(line["stage"], line["step"], numbers)


@dataclass(frozen=True, slots=True)
class AlertLine:
    """Alert, in metrics.jsonl directly after the line that raised it."""

    stage: str
    step: int
    alert: str
    """Name of its rule."""
    message: str
    """What was observed, and what to check, in a sentence."""
    count: int
    """Number of alerts of this rule in the stage so far."""

    def to_line(self) -> dict[str, Any]:
        """The line's JSON object."""
        return asdict(self)

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self | None:
        """Record of a line; None: it is no alert."""
        return _record(cls, line)


@dataclass(frozen=True, slots=True)
class EvalSample:
    """Response to a held-out prompt."""

    index: int
    """Index of the prompt, the same at every step of a stage."""
    prompt: str
    """Readable prompt, without the template's tokens."""
    response: str
    """Response from its beginning, generation prefix included."""
    reference: str | None = None
    """The right answer, or one; None: there is none."""
    correct: bool | None = None
    """None: not graded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSample:
    """One response of a batch of rollouts."""

    rollout: str
    """Why it was selected: best, worst, most surprising, or, without rewards, sampled."""
    row: int
    """Row of the prompt in the data."""
    prompt: str
    response: str
    """The whole response, with the part that the prompt contains."""
    reference: str | None = None
    reward: float | None
    """None: the stage has no rewards."""
    parts: dict[str, float | str | None] = field(default_factory=dict)
    """Outcome of each reward by its name; text: a failure."""
    labels: dict[str, str] = field(default_factory=dict)
    """Label of each outcome that has one, by the name of its reward, such as ``{"code": "timeout"}``."""
    contributions: dict[str, float] = field(default_factory=dict)
    """Contribution of each reward to the comparison with the group, before the division by a deviation; see
    `credit.combine.contributions`."""
    advantage: float | None = None
    """Mean over its tokens; None: its group was dropped, or its loss needs none."""
    trained: bool | None = None
    """Whether it is trained on without an advantage, as in distillation; None: the advantage says it."""
    logprob: float
    """Mean over its tokens, nats."""


@dataclass(frozen=True, slots=True)
class SampleLine:
    """Sample of an evaluation or of a batch of rollouts: a line of samples.jsonl."""

    stage: str
    step: int
    """Number of optimizer steps done at an evaluation; the step that trains on a rollout."""
    sample: EvalSample | RolloutSample

    def to_line(self) -> dict[str, Any]:
        """The line's JSON object."""
        return {"stage": self.stage, "step": self.step, **asdict(self.sample)}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self | None:
        """Record of a line; None: it has no stage or step, or lacks a field of the sample."""
        sample = _record(RolloutSample, line) if "rollout" in line else _record(EvalSample, line)
        return None if sample is None or not _has_place(line) else cls(line["stage"], line["step"], sample)


def read_metrics(path: Path) -> Iterator[MetricsLine | AlertLine]:
    """Records of metrics.jsonl, in order; none if the file does not exist."""
    for line in read_lines(path):
        if (record := MetricsLine.from_line(line) or AlertLine.from_line(line)) is not None:
            yield record


def read_samples(path: Path) -> Iterator[SampleLine]:
    """Records of samples.jsonl, in order; none if the file does not exist."""
    for line in read_lines(path):
        if (record := SampleLine.from_line(line)) is not None:
            yield record


def _has_place(line: Mapping[str, Any]) -> bool:
    return type(line.get("stage")) is str and type(line.get("step")) is int


def _record(kind: type[_Record], line: Mapping[str, Any]) -> _Record | None:
    """Dataclass with the line's fields; None: a required field is missing, or a value is of another type."""
    values = {}
    for name, (types, is_required) in _SCHEMAS[kind].items():
        if name not in line:
            if is_required:
                return None
            continue
        value = math.nan if line[name] is None and types == (float, int) else line[name]
        if type(value) not in types:
            return None
        values[name] = value
    return kind(**values)


def _json_types(hint: Any) -> tuple[type, ...]:
    """Example: ``dict[str, float] | None`` gives ``(dict, NoneType)``. A float may be written as a whole number."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    types = [get_origin(option) or option for option in options]
    return (*types, int) if float in types else tuple(types)


def _schema(kind: type[Any]) -> Mapping[str, tuple[tuple[type, ...], bool]]:
    """Field → types that its JSON value may have, and whether it is required."""
    hints = get_type_hints(kind)
    required = {item.name: item.default is MISSING and item.default_factory is MISSING for item in fields(kind)}
    return {name: (_json_types(hints[name]), is_required) for name, is_required in required.items()}


_SCHEMAS: Mapping[type[Any], Mapping[str, tuple[tuple[type, ...], bool]]] = {
    kind: _schema(kind) for kind in (AlertLine, EvalSample, RolloutSample)
}
