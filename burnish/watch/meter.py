"""The figures of a run, step by step, without waiting for the device until a line is due.

Stands beside the loop. Scalars stay on the device in a buffer; `flush` reads them all at once, checks that they are
finite, writes one line per step and measures speed, utilisation and memory since the last restart.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from burnish.errors import DivergenceError
from burnish.watch.memory import peak_memory_gib
from burnish.watch.peak import measured_peak

Line = dict[str, str | int | float | None]
"""One object of metrics.jsonl."""


@dataclass(frozen=True, eq=False, slots=True)
class _Entry:
    """What was recorded of one step."""

    step: int
    figures: Mapping[str, Tensor | float]
    tokens: int
    flops: float
    seen: Mapping[str, float]


class Meter:
    """Buffers the figures of steps and writes them in lines."""

    def __init__(
        self, stage: str, write: Callable[[Sequence[Line]], None], device: torch.device, dtype: torch.dtype
    ) -> None:
        """
        Args:
            stage: name that every line carries.
            write: appends lines to metrics.jsonl.
            device: where the model is computed.
            dtype: in which type.
        """
        self._stage = stage
        self._write = write
        self._device = device
        self._peak = measured_peak(device, dtype)
        self._buffer: list[_Entry] = []
        self.restart()

    def restart(self) -> None:
        """Time begins to count anew: what passed since the last flush was not training."""
        self._since = time.perf_counter()

    def record(
        self,
        step: int,
        figures: Mapping[str, Tensor | float],
        tokens: int,
        flops: float,
        seen: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Keeps a step's figures and its counters (`Seen`); `tokens` are all tokens that it computed, with so many
        FLOPs of the model."""
        self._buffer.append(_Entry(step, figures, tokens, flops, seen))

    def flush(self) -> dict[str, float]:
        """Writes what was recorded, a line per step.

        Returns:
            The means of the figures over these steps, those of `_speed`, and the epoch; empty if nothing was recorded.

        Raises:
            DivergenceError: a figure of some step is not a finite number. The lines are written all the same.
        """
        if not self._buffer:
            return {}
        rows = [_read(entry.figures) for entry in self._buffer]
        speed = self._speed()
        lines: list[Line] = [
            {"stage": self._stage, "step": entry.step, **entry.seen, **row, **speed}
            for entry, row in zip(self._buffer, rows, strict=True)
        ]
        means = _means(rows)
        epoch = {name: value for name, value in self._buffer[-1].seen.items() if name == "epoch"}
        self._buffer.clear()
        self._write(lines)
        _require_finite(lines)
        self.restart()
        return {**means, **speed, **epoch}

    def _speed(self) -> dict[str, float]:
        """What depends on the clock and the machine, over the buffered steps.

        ``mfu`` is the model-FLOP utilisation of arXiv 2204.02311, appendix B: FLOPs that the model needs, without what
        checkpointing computes again, per second, over the peak; here the measured one.
        """
        seconds = max(time.perf_counter() - self._since, 1e-9)
        return {
            "tokens_per_second": sum(entry.tokens for entry in self._buffer) / seconds,
            "seconds_per_step": seconds / len(self._buffer),
            "mfu": sum(entry.flops for entry in self._buffer) / seconds / self._peak,
            "memory_gib": peak_memory_gib(self._device),
        }

    def write_now(self, step: int, figures: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Writes a line that is no training step, such as an evaluation; returns its figures.

        Raises:
            DivergenceError: as `flush`.
        """
        row = _read(figures)
        line: Line = {"stage": self._stage, "step": step, **row}
        self._write([line])
        _require_finite([line])
        return row


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure, over the steps that have it: responses are not written for every step."""
    values: dict[str, list[float]] = {}
    for name, value in (item for row in rows for item in row.items()):
        values.setdefault(name, []).append(value)
    return {name: sum(each) / len(each) for name, each in values.items()}


def _read(figures: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Figures as numbers: one transfer for all tensors together."""
    tensors = {name: value for name, value in figures.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in figures.items() if not isinstance(value, Tensor)}
    if tensors:
        read = torch.stack([value.to(torch.float64) for value in tensors.values()]).tolist()
        numbers = {**dict(zip(tensors, read, strict=True)), **numbers}
    return numbers


def _require_finite(lines: Sequence[Line]) -> None:
    for line in lines:
        for name, value in line.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise DivergenceError(
                    f"{name} is {value} at step {line['step']}: the training diverged.\n"
                    "  to do: lower learning_rate or optimizer.max_grad_norm, look at the rows of that step, "
                    "and start anew with another --output"
                )
