"""Measurements of a contender's process by itself."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn


@dataclass
class Meter:
    """Times of steps, losses, and memory above the loaded model."""

    base: int = 0
    """Bytes resident when the model was loaded."""
    peak: int = 0
    """Largest number of bytes resident since then, up to the last step."""
    began: float = 0.0
    cpu_began: float = 0.0
    walls: list[float] = field(default_factory=list)
    """Seconds of each step."""
    cpus: list[float] = field(default_factory=list)
    """Processor seconds of each step, over all threads."""
    first: float = 0.0
    """Seconds from the start of the process to the end of the first step."""
    losses: list[float] = field(default_factory=list)

    def loaded(self, model: nn.Module) -> None:
        """Starts the measurement after loading. Mapped weights are read, and memory that libraries allocate once is
        allocated, so that neither counts as training's."""
        with torch.no_grad():
            for tensor in [*model.parameters(), *model.buffers()]:
                tensor.sum()
        torch.randn(1024, 1024) @ torch.randn(1024, 1024)
        self.base = psutil.Process().memory_info().rss
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
        self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def step(self) -> None:
        """Ends a step."""
        now, cpu = time.perf_counter(), time.process_time()
        self.walls.append(now - self.began)
        self.cpus.append(cpu - self.cpu_began)
        self.peak = resident_peak()
        if not self.first:
            self.first = time.time() - psutil.Process().create_time()
        self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def figures(self) -> dict[str, Any]:
        """Measurements as plain data."""
        return {
            "walls": self.walls,
            "cpus": self.cpus,
            "first": self.first,
            "losses": self.losses,
            "beyond": self.peak - self.base,
            "base": self.base,
        }


def resident_peak() -> int:
    """Bytes: the largest resident set since `/proc/self/clear_refs` was last written to."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
