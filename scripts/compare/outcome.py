"""What a run left behind, and the comparison of two: weights, figures and samples, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from scripts.compare.renames import Renames, with_new_names

MACHINE = frozenset({"seconds", "second", "wall", "mfu", "memory"})
"""Words in the names of figures that the clock or the process decides."""
NO_RENAMES = Renames()
Moment = tuple[str, int]
"""Stage and step."""


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What a run left behind."""

    tensors: Mapping[str, Tensor]
    """Final weights of every stage: the model's folder, a colon, the tensor's name."""
    figures: Mapping[Moment, Mapping[str, Sequence[Any]]]
    """Figures in the order of metrics.jsonl. Each usually has one value at a step."""
    samples: Sequence[Mapping[str, Any]]
    not_written: frozenset[str] = frozenset()
    """Figures that this version does not write yet."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure, tensor or line that is not the same on both sides."""

    name: str
    size: float | None
    """Largest absolute difference; None: there is none, such as between texts or shapes."""
    note: str = ""
    """What a size does not tell, such as which side lacks it."""
    moment: Moment | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences between two runs, in their order."""

    figures: Sequence[Difference]
    tensors: Sequence[Difference]
    samples: Sequence[Difference]
    num_figures: int
    """Names, not values: of those that either side has."""
    num_tensors: int
    num_samples: int

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not (self.figures or self.tensors or self.samples)

    def line(self) -> str:
        """What was compared, or what differs."""
        if self.identical:
            return f"{self.num_tensors} tensors, {self.num_figures} metrics, {self.num_samples} samples"
        names = dict.fromkeys(difference.name for difference in self.figures)
        parts = [
            _first(self.figures),
            _summary(self.figures, len(names), self.num_figures, "metrics"),
            _summary(self.tensors, len(self.tensors), self.num_tensors, "tensors"),
            _samples(self.samples, self.num_samples),
        ]
        return "; ".join(part for part in parts if part)


def read_outcome(run: Path, renames: Renames = NO_RENAMES) -> Outcome:
    """Reads a run folder; names that are old in the table become new ones.

    Raises:
        FileNotFoundError: there are no weights.
    """
    return Outcome(
        _tensors(run),
        _figures(_lines(run / "metrics.jsonl"), renames),
        [with_new_names(line, renames.samples) for line in _lines(run / "samples.jsonl")],
        frozenset(renames.added),
    )


def compare(base: Outcome, tree: Outcome) -> Comparison:
    """Compares two runs."""
    names = {name for figures in (base.figures, tree.figures) for at in figures.values() for name in at}
    return Comparison(
        figures=list(_different_figures(base, tree)),
        tensors=list(_different_tensors(base.tensors, tree.tensors)),
        samples=list(_different_samples(base.samples, tree.samples)),
        num_figures=len(names),
        num_tensors=len({*base.tensors, *tree.tensors}),
        num_samples=max(len(base.samples), len(tree.samples)),
    )


def depends_on_machine(name: str) -> bool:
    """Whether a figure is a time, a rate or an amount of memory."""
    return bool(MACHINE & set(name.replace("/", "_").split("_")))


def _tensors(run: Path) -> dict[str, Tensor]:
    """Those of all folders called model, which are the final ones: checkpoints are not compared."""
    tensors: dict[str, Tensor] = {}
    for file in sorted(run.rglob("model/*.safetensors")):
        folder = file.parent.relative_to(run)
        if "checkpoints" not in folder.parts:
            tensors |= {f"{folder}: {name}": tensor for name, tensor in load_file(file).items()}
    if not tensors:
        raise FileNotFoundError(f"no weights in {run}")
    return tensors


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _figures(lines: Sequence[Mapping[str, Any]], renames: Renames) -> dict[Moment, dict[str, list[Any]]]:
    alerts = {old: new for new, old in renames.alerts.items()}
    figures: dict[Moment, dict[str, list[Any]]] = {}
    for line in lines:
        at = figures.setdefault((str(line.get("stage")), line["step"]), {})
        if "alert" in line:  # its message is prose
            at.setdefault(f"alert {alerts.get(line['alert'], line['alert'])}", []).append(line.get("count"))
            continue
        for name, value in with_new_names(line, renames.metrics).items():
            if name not in ("stage", "step") and not depends_on_machine(name):
                at.setdefault(name, []).append(value)
    return figures


def _different_figures(base: Outcome, tree: Outcome) -> Iterator[Difference]:
    for moment in dict.fromkeys([*base.figures, *tree.figures]):
        one, other = base.figures.get(moment, {}), tree.figures.get(moment, {})
        for name in dict.fromkeys([*one, *other]):
            if name not in one and name in base.not_written:
                continue
            if name not in one or name not in other:
                yield Difference(name, None, _lacking(name in one), moment)
            elif json.dumps(one[name]) != json.dumps(other[name]):  # also 0.0 and -0.0
                yield Difference(name, _size(one[name], other[name]), "", moment)


def _different_tensors(base: Mapping[str, Tensor], tree: Mapping[str, Tensor]) -> Iterator[Difference]:
    for name in dict.fromkeys([*base, *tree]):
        if name not in base or name not in tree:
            yield Difference(name, None, _lacking(name in base))
            continue
        one, other = base[name], tree[name]
        if one.shape != other.shape or one.dtype != other.dtype:
            kinds = [f"{tuple(each.shape)} {each.dtype}".replace("torch.", "") for each in (one, other)]
            yield Difference(name, None, f"{kinds[0]} and {kinds[1]}")
        elif not torch.equal(_bits(one), _bits(other)):
            yield Difference(name, float((one.double() - other.double()).abs().max()))


def _different_samples(base: Sequence[Mapping[str, Any]], tree: Sequence[Mapping[str, Any]]) -> Iterator[Difference]:
    for number in range(max(len(base), len(tree))):
        if number >= min(len(base), len(tree)):
            yield Difference(f"line {number + 1}", None, _lacking(number < len(base)))
            continue
        one, other = base[number], tree[number]
        fields = [name for name in dict.fromkeys([*one, *other]) if _text(one, name) != _text(other, name)]
        if fields:
            yield Difference(f"line {number + 1}", None, ", ".join(fields), (str(one.get("stage")), one.get("step", 0)))


def _text(line: Mapping[str, Any], name: str) -> str:
    """A value as it was written; "" where there is none."""
    return json.dumps(line[name]) if name in line else ""


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _lacking(in_base: bool) -> str:
    return "only in the commit" if in_base else "only in the working tree"


def _size(one: Sequence[Any], other: Sequence[Any]) -> float | None:
    pairs = list(zip(one, other, strict=False))
    if len(one) != len(other) or not all(isinstance(value, int | float) for pair in pairs for value in pair):
        return None
    return max(abs(float(a) - float(b)) for a, b in pairs)


def _first(figures: Sequence[Difference]) -> str:
    if not figures:
        return ""
    moment = figures[0].moment
    assert moment is not None, "a figure has a step"
    names = [difference.name for difference in figures if difference.moment == moment]
    return f"first at {moment[0]} step {moment[1]}: {_listed(names)}"


def _summary(differences: Sequence[Difference], count: int, total: int, what: str) -> str:
    if not differences:
        return ""
    parts = [f"{count} of {total} {what}"]
    sized = [difference for difference in differences if difference.size is not None]
    if sized:
        largest = max(sized, key=lambda difference: difference.size or 0.0)
        parts.append(f"at most {largest.size:.3g} ({largest.name})")
    notes = dict.fromkeys(difference.note for difference in differences if difference.note)
    for note in notes:
        names = dict.fromkeys(difference.name for difference in differences if difference.note == note)
        parts.append(f"{note}: {_listed(list(names))}")
    return ", ".join(parts)


def _samples(differences: Sequence[Difference], total: int) -> str:
    if not differences:
        return ""
    first = differences[0]
    at = f" ({first.moment[0]} step {first.moment[1]})" if first.moment else ""
    return f"{len(differences)} of {total} samples, first {first.name}{at}: {first.note}"


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
