"""Estimates time, memory and disk space of the checks of a model, before its weights are loaded."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from burnish.checks.resuming import SEQUENCES, STEPS
from burnish.checks.subject import EXACT_PARAMETERS, Subject
from burnish.checks.verdict import type_name
from burnish.errors import CapacityError
from burnish.microbatch import CostModel
from burnish.model.adapters.add import add_adapter
from burnish.model.freezing import freeze
from burnish.model.load import load_config
from burnish.model.model_class import model_class_of
from burnish.model.policy import Model
from burnish.model.settings import Quantization
from burnish.model.vision_parts import freeze_patterns
from burnish.runs.named_model import resolve_model
from burnish.settings.adapter import Adapter
from burnish.settings.stage import TrainingSettings
from burnish.stages.models import device_of
from burnish.vision.registry import family_of
from burnish.vision.settings import VisionSettings
from burnish.watch.quiet import quiet_transformers

SECONDS = 120.0
"""Estimated duration from which --yes is needed."""
_FORWARDS = 20
"""Forwards of the groups, a backward counted as two: numerical checks 2 + 15, saving 3."""
_STEPS = 3 * STEPS
"""Largest number of steps of the short runs: undisturbed, killed, resumed."""
_LOADS = 6
"""Number of times that the weights are read: for the numerical checks, twice as saved, and by three short runs."""
_BYTES_PER_SECOND = 1e9
_START = 6.0
"""Seconds for another process to start."""
_MEASURING = 0.1
"""Seconds of measuring the speed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost and available resources."""

    parameters: int
    trained: int
    """Number of trained parameters."""
    copy_dtype: torch.dtype
    """Type of the copy for the numerical checks."""
    memory: int
    """Peak memory, bytes."""
    free: int
    """Free memory of the device, bytes."""
    disk: int
    """Size of the temporary folder, bytes."""
    free_disk: int
    """Free space there, bytes."""
    flops: float
    """FLOPs of all checks."""
    speed: float
    """Measured FLOPs per second of a matrix product."""
    seconds: float

    def line(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.trained:,} of them trained; numerical checks on a "
            f"{type_name(self.copy_dtype)} copy; memory {_sizes(self.memory, self.free)}, "
            f"disk {_sizes(self.disk, self.free_disk)}, {_clock(self.seconds)} "
            f"({self.flops:.1e} FLOPs at {self.speed:.1e}/s)"
        )

    def require_leave(self) -> None:
        """Raises CapacityError if the checks take long or more than the free memory or disk space."""
        reasons = []
        if self.seconds > SECONDS:
            reasons.append(f"more than {SECONDS / 60:.0f} minutes")
        if self.memory > self.free:
            reasons.append("more memory than is free")
        if self.disk > self.free_disk:
            reasons.append("more disk than is free (TMPDIR says where)")
        if reasons:
            raise CapacityError(
                given=f"the checks of this model take {' and '.join(reasons)}",
                rule="expensive checks run only after confirmation",
                remedy="add --yes to run them anyway, or check the recipe with a smaller model of the same family",
            )


def estimate(subject: Subject) -> Cost:
    """Estimate from the model's configuration and the groups of the numerical checks."""
    recipe = subject.recipe
    model = _without_weights(resolve_model(recipe.model))
    cost = Model(model, subject.context.reader.tokenizer).cost
    parameters = sum(p.numel() for p in model.parameters())
    device = device_of(recipe)
    own = _own_dtype(recipe.dtype, model)
    weights = _stored_bytes(model, recipe.adapter.quantization, own)
    trained = _trained(model, recipe.adapter, recipe.vision.settings)
    exact = parameters <= EXACT_PARAMETERS and device.type == "cpu" and recipe.adapter.quantization is None
    dtype = torch.float64 if exact else own
    copy = parameters * dtype.itemsize if exact else weights
    laws = weights + copy + 3 * trained * max(4, dtype.itemsize)
    runs = weights + trained * 4 * (4 if own.itemsize < 4 else 3)
    checkpoint = trained * 4 * 3
    flops = _FORWARDS * _forward(cost, subject) + 3 * _STEPS * _step(cost, subject)
    speed = _measured_speed(device, dtype)
    reading = (_LOADS * weights + (2 * STEPS + 1) * checkpoint) / _BYTES_PER_SECOND
    return Cost(
        parameters=parameters,
        trained=trained,
        copy_dtype=dtype,
        memory=max(laws, runs, 3 * weights),
        free=_free(device),
        disk=2 * weights + 2 * checkpoint,
        free_disk=shutil.disk_usage(subject.folder).free,
        flops=flops,
        speed=speed,
        seconds=flops / speed + reading + 2 * _START,
    )


def _without_weights(name: str) -> PreTrainedModel:
    """Model without weights, on torch's meta device."""
    config = load_config(name)
    with torch.device("meta"), quiet_transformers():
        model: PreTrainedModel = model_class_of(config).from_config(config)
    return model


def _own_dtype(name: str, model: PreTrainedModel) -> torch.dtype:
    """Type of the weights as they will be loaded."""
    chosen: torch.dtype = model.config.dtype or torch.float32 if name == "auto" else getattr(torch, name)
    return torch.float32 if chosen == torch.float16 else chosen


def _trained(model: PreTrainedModel, adapter: Adapter, vision: VisionSettings) -> int:
    """Number of trained parameters, with the adapter or the frozen weights of training."""
    settings, frozen = adapter.settings, freeze_patterns(family_of(model.config), vision)
    if settings is None:
        freeze(model, (*frozen, *adapter.freeze))
        trained: nn.Module = model
    else:
        with torch.device("meta"):
            trained = add_adapter(model, replace(settings, frozen=frozen), begun=False)
    return sum(p.numel() for p in trained.parameters() if p.requires_grad)


def _stored_bytes(model: PreTrainedModel, quantization: Quantization | None, own: torch.dtype) -> int:
    """Bytes of the loaded weights, of which linear layers except the head may be quantized."""
    total = sum(p.numel() for p in model.parameters())
    if quantization is None:
        return total * own.itemsize
    head = model.get_output_embeddings()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
    narrow = sum(layer.weight.numel() for layer in layers)
    return quantization.bytes_of(narrow) + (total - narrow) * own.itemsize


def _forward(cost: CostModel, subject: Subject) -> float:
    """FLOPs of a forward of the groups of the numerical checks, without attention (they are short)."""
    tokens = sum(group.num_tokens for group in subject.shared)
    scored = sum(int(response.trainable.sum()) for group in subject.shared for response in group.responses)
    return cost.per_token * tokens + cost.per_scored * scored


def _step(cost: CostModel, subject: Subject) -> float:
    """FLOPs of a forward of one step of the short runs."""
    report, settings = subject.rows.report, subject.stage
    assert isinstance(settings, TrainingSettings), "see `Subject.training`"
    rows = min(SEQUENCES, settings.draws_per_step) / report.groups
    return rows * (cost.per_token * report.tokens + cost.per_scored * report.trained_tokens)


def _measured_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs per second of products of two 512 x 512 matrices."""
    matrix = torch.ones(512, 512, device=device, dtype=dtype)
    _wait_for(matrix @ matrix)  # the first one starts threads
    rounds, start = 0, time.perf_counter()
    while time.perf_counter() < start + _MEASURING:
        _wait_for(matrix @ matrix)
        rounds += 1
    return 2 * 512**3 * rounds / (time.perf_counter() - start)


def _wait_for(result: Tensor) -> None:
    result[0, 0].item()


def _free(device: torch.device) -> int:
    """Free memory, bytes."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    table = Path("/proc/meminfo")
    if table.exists():
        lines = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _sizes(needed: int, free: int) -> str:
    return f"{_size(needed)} ({_size(free)} free)"


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def _clock(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} minutes"
