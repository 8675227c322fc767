"""Part of a weight that a process has, and how it becomes the whole weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Slice of a weight among the processes of tensor parallelism."""

    dim: int
    """Dimension that is cut into equal slices."""
    index: int
    """Which slice this process has."""
    count: int
    """Number of slices."""
    group: Any = None
    """The processes, a process group of torch.distributed."""

    def own(self, whole: Tensor) -> Tensor:
        """This process's slice of a whole tensor."""
        return whole.chunk(self.count, self.dim)[self.index]

    def whole(self, own: Tensor) -> Tensor:
        """The whole tensor of all slices. Collective."""
        slices = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(slices, own.contiguous(), group=self.group)
        return torch.cat(slices, self.dim)


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """Which part of a weight, and of tensors of its shape (gradients, states of optimizers), a process has.

    First a slice for tensor parallelism, then a piece of its rows for sharding. Without both it is the whole weight.
    """

    split: Split | None = None
    """Slice among processes that compute the same rows; None: not sliced."""
    mesh: DeviceMesh | None = None
    """Processes over which the first dimension is cut into pieces as by `torch.chunk`; None: not sharded."""
    shape: torch.Size | None = None
    """Of the weight before sharding; None: not sharded."""
    is_partial: bool = False
    """Whether each process of tensor parallelism has a summand of the gradient of a weight that all of them have."""

    @property
    def is_whole(self) -> bool:
        return self.split is None and self.mesh is None

    def own(self, whole: Tensor) -> Tensor:
        """The part of a whole tensor that this process has; a view where possible."""
        sliced = whole if self.split is None else self.split.own(whole)
        if self.mesh is None:
            return sliced
        pieces = sliced.chunk(self.mesh.size(), 0)
        index = self.mesh.get_local_rank()
        return pieces[index] if index < len(pieces) else sliced.new_empty((0, *sliced.shape[1:]))

    def whole(self, own: Tensor) -> Tensor:
        """The whole tensor. Collective."""
        sliced = own if self.mesh is None else self.sharded(own).full_tensor()
        return sliced if self.split is None else self.split.whole(sliced)

    def whole_shape(self, own: torch.Size) -> list[int]:
        """Shape of the whole tensor."""
        shape = list(own if self.shape is None else self.shape)
        if self.split is not None:
            shape[self.split.dim] *= self.split.count
        return shape

    def sharded(self, own: Tensor) -> DTensor:
        """The piece as torch's tensor that knows its place in the tensor before sharding."""
        assert self.mesh is not None, "only sharded weights have pieces"
        assert self.shape is not None, "sharded weights know their shape"
        stride = torch.empty(self.shape, device="meta").stride()
        return DTensor.from_local(own, self.mesh, [Shard(0)], run_check=False, shape=self.shape, stride=stride)


WHOLE = Part()
"""Part of a weight that is not divided."""


def part_of(weight: Tensor, split: Split | None = None, is_partial: bool = False) -> Part:
    """The part that this process has of a weight.

    Args:
        weight: the weight, as FSDP2 leaves it if it is sharded.
        split: its slice for tensor parallelism.
        is_partial: see `Part.is_partial`.
    """
    if not isinstance(weight, DTensor):
        return WHOLE if split is None and not is_partial else Part(split, is_partial=is_partial)
    return Part(split, weight.device_mesh, weight.shape, is_partial)


def own_tensor(weight: Tensor) -> Tensor:
    """The numbers of a weight that this process has, in the same memory."""
    if not isinstance(weight, DTensor):
        return weight
    own: Tensor = weight._local_tensor  # `to_local` is a view in autograd
    return own.detach()


def own_parameter(weight: nn.Parameter) -> nn.Parameter:
    """A parameter that is this process's piece of a sharded one, in the same memory; any other unchanged."""
    return nn.Parameter(own_tensor(weight)) if isinstance(weight, DTensor) else weight
