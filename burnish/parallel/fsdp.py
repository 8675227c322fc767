"""Sharded weights: every process keeps a piece of each weight and gathers the others' pieces to compute (FSDP2).

The layers of the decoder are gathered and freed one at a time, in the forward and again in the backward. All other
weights (embedding, head, vision tower) are one further unit. Gradients are summed over the processes of a copy of the
weights when a unit's backward is done, without a division: a step's sums are divided by its counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.utils._pytree import tree_map_only

from burnish.parallel.columns import Columns
from burnish.parallel.divided import Divided
from burnish.parallel.part import Part

T = TypeVar("T")
_COMPUTE = "compute_with_weights"
"""Name of the method of the model in which its own unit is gathered."""


def shard(root: nn.Module, layers: Iterable[nn.Module], mesh: DeviceMesh, *, cpu_offload: bool = False) -> None:
    """Shards the weights of a model over the processes of a mesh, in place; each has the same weights before.

    Args:
        root: the model.
        layers: modules in it that are gathered one at a time.
        mesh: the processes that have the weights together.
        cpu_offload: whether pieces, their gradients and the optimizer stay in the memory of the CPU.
    """
    offload: OffloadPolicy = CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if cpu_offload else OffloadPolicy()
    for layer in layers:
        fully_shard(layer, mesh=mesh, offload_policy=offload)
    fully_shard(root, mesh=mesh, offload_policy=offload)
    for unit in _units(root):
        unit.set_gradient_divide_factor(1.0)
        # A factor of 1 is NCCL's own reduction, which gloo lacks for float32.
        unit.set_force_sum_reduction_for_comms(True)
    root.set_reduce_scatter_unused_params(True)  # type: ignore[operator]  # a step has images on some processes only
    setattr(root, _COMPUTE, MethodType(lambda _, work: work(), root))
    register_fsdp_forward_method(root, _COMPUTE)


class Sharded(Divided):
    """Placement of a model whose weights `shard` has divided."""

    gathers = True

    def __init__(
        self,
        model: nn.Module,
        parts: Mapping[str, Part],
        root: nn.Module,
        device: torch.device,
        columns: Columns | None = None,
    ) -> None:
        """
        Args:
            model: see `Divided`.
            parts: see `Divided`.
            root: the model that was sharded, the model itself or in it.
            device: where it computes.
            columns: see `Placement.columns`.
        """
        super().__init__(model, parts, columns)
        self.root: Any = root
        self.device = device
        self._layers = [unit for unit in _units(root) if unit is not root]
        self._watched = self._trained_with_root()
        self._hooked: set[str] = set()
        self._used: set[str] = set()

    def compute(self, work: Callable[[], T]) -> T:
        result: T = getattr(self.root, _COMPUTE)(partial(self._watching, work))
        if not torch.is_grad_enabled():
            self._end_forward()
        return result

    def take_unused(self) -> set[str]:
        unused = self._watched.keys() - self._used
        self._used.clear()
        return set(unused)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        with torch.no_grad():
            self.compute(lambda: ())  # so that FSDP2 knows the root
        for unit in (self.root, *self._layers):
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for unit in (self.root, *self._layers):
                unit.set_reshard_after_forward(unit is not self.root, recurse=False)
            self._end_forward()

    def _end_forward(self) -> None:
        """Frees the gathered weights after a forward without a backward, which does it otherwise, and forgets the order
        of its layers: processes may have computed different numbers of such forwards."""
        self.root.reset_iter_state()

    def _watching(self, work: Callable[[], T]) -> T:
        """The result of a computation in which the root's own weights are gathered; their gradients are noted."""
        if torch.is_grad_enabled():
            for name in self._watched.keys() - self._hooked:
                module, attribute = self._watched[name]
                weight = getattr(module, attribute)
                weight.register_post_accumulate_grad_hook(partial(self._note_use, name))
                self._hooked.add(name)
        # FSDP2 has hooks on what is returned, which a view could lose.
        return tree_map_only(Tensor, Tensor.clone, work())

    def _note_use(self, name: str, _: Tensor) -> None:
        self._used.add(name)

    def _trained_with_root(self) -> dict[str, tuple[nn.Module, str]]:
        """Name → module and attribute of the trained weights that are gathered with the root."""
        inside = {id(module) for unit in self._layers for module in unit.modules()}
        return {
            name: places[0]
            for name, (weight, places) in self.places.items()
            if weight.requires_grad and id(places[0][0]) not in inside
        }


def _units(root: nn.Module) -> Iterator[Any]:
    return (module for module in root.modules() if isinstance(module, FSDPModule))
