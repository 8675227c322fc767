"""Buffer of the metrics of steps, so that a step does not wait for the device.

Scalars stay on the device until `flush`, which reads them all at once, checks that they are finite, writes one line per
step, and measures speed, utilization and memory since the last restart.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from burnish.errors import DivergenceError
from burnish.watch.journal_lines import MetricsLine
from burnish.watch.peak import measured_peak

_GIB = 2**30


@dataclass(frozen=True, eq=False, slots=True)
class _Entry:
    """Recorded values of one step."""

    step: int
    metrics: Mapping[str, Tensor | float]
    tokens: int
    flops: float
    seen: Mapping[str, float]


class Meter:
    """Buffers the metrics of steps and writes them in lines."""

    def __init__(
        self, stage: str, write: Callable[[Sequence[MetricsLine]], None], device: torch.device, dtype: torch.dtype
    ) -> None:
        """
        Args:
            stage: its name, which is in every line.
            write: appends lines to metrics.jsonl.
            device: of the model.
            dtype: of the model.
        """
        self._stage = stage
        self._write = write
        self._device = device
        self._peak = measured_peak(device, dtype)
        self._buffer: list[_Entry] = []
        self.restart()

    def restart(self) -> None:
        """Restarts the clock: the time since the last flush was not training."""
        self._since = time.perf_counter()

    def record(
        self,
        step: int,
        metrics: Mapping[str, Tensor | float],
        tokens: int,
        flops: float,
        seen: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Buffers the metrics of a step, its packed tokens, its model FLOPs and the counts of `RunCounters`."""
        self._buffer.append(_Entry(step, metrics, tokens, flops, seen))

    def newest(self) -> dict[str, float]:
        """Metrics of the last step that was recorded, which must not be written yet, with its counts."""
        entry = self._buffer[-1]
        return {**entry.seen, **_read(entry.metrics)}

    def flush(self) -> dict[str, float]:
        """Writes the buffered steps, a line each.

        Returns:
            Means of the metrics over these steps, the metrics of `_speed`, and the epoch; empty if nothing is buffered.

        Raises:
            DivergenceError: a metric of a step is not finite. The lines are written nevertheless.
        """
        if not self._buffer:
            return {}
        rows = [_read(entry.metrics) for entry in self._buffer]
        speed = self._speed()
        lines = [
            MetricsLine(self._stage, entry.step, {**entry.seen, **row, **speed})
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
        """Speed and memory over the buffered steps.

        ``mfu`` is the model-FLOP utilization of arXiv 2204.02311, appendix B: FLOPs that the model needs, without
        recomputation by checkpointing, per second, over the peak; here the measured peak.
        """
        seconds = max(time.perf_counter() - self._since, 1e-9)
        return {
            "tokens_per_second": sum(entry.tokens for entry in self._buffer) / seconds,
            "seconds_per_step": seconds / len(self._buffer),
            "mfu": sum(entry.flops for entry in self._buffer) / seconds / self._peak,
            "memory_gib": peak_memory_gib(self._device),
        }

    def write_now(self, step: int, metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Writes the line of an evaluation at once; returns its metrics.

        Raises:
            DivergenceError: as `flush`.
        """
        row = _read(metrics)
        line = MetricsLine(self._stage, step, row)
        self._write([line])
        _require_finite([line])
        return row


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory in GiB: of tensors on a CUDA device, or of the whole process (resident set) on CPU.

    Reading it does not wait for the device.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts KiB, macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over the steps that have it, since not every step has new rollouts."""
    values: dict[str, list[float]] = {}
    for name, value in (item for row in rows for item in row.items()):
        values.setdefault(name, []).append(value)
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}


def _read(metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Metrics as numbers, with one transfer for all tensors."""
    tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in metrics.items() if not isinstance(value, Tensor)}
    if tensors:
        values = torch.stack([value.to(torch.float64) for value in tensors.values()]).tolist()
        numbers = {**dict(zip(tensors, values, strict=True)), **numbers}
    return numbers


def _require_finite(lines: Sequence[MetricsLine]) -> None:
    for line in lines:
        for name, value in line.metrics.items():
            if not math.isfinite(value):
                raise DivergenceError(
                    f"{name} is {value} at step {line.step}: the training diverged.\n"
                    "  to do: lower learning_rate or optimizer.max_grad_norm, check the rows of that step, "
                    "and start again with another --output"
                )
