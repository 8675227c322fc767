"""Process groups of a mesh, as torch.distributed needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from burnish.parallel.mesh import Mesh


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Some processes of a run, as one of them sees them."""

    ranks: tuple[int, ...]
    handle: Any = None
    """Process group of torch.distributed; None: all processes, or this one alone."""

    def sum(self, tensor: Tensor) -> None:
        """Sums a tensor over the processes, in place."""
        if len(self.ranks) > 1:
            dist.all_reduce(tensor, group=self.handle)


@dataclass(frozen=True, eq=False, slots=True)
class Groups:
    """The groups of one process."""

    shares: Group
    """Processes with different rows, one of each share."""
    same_rows: Group
    """Processes with the same rows."""
    copies: Group
    """Processes with the same part of the weights."""
    sharded: Group
    """Processes that have a copy of the weights together."""
    mesh: DeviceMesh | None
    """The last ones, as FSDP2 takes them; None: this process has a copy alone."""

    @classmethod
    def of(cls, mesh: Mesh, rank: int, device: torch.device) -> Self:
        """Makes the groups; every process does it."""
        kinds: tuple[Callable[[int], list[int]], ...] = (mesh.other_rows, mesh.same_rows, mesh.copies, mesh.sharded)
        every = sorted({tuple(kind(each)) for kind in kinds for each in range(mesh.size)})
        handles = {ranks: dist.new_group(list(ranks)) for ranks in every if 1 < len(ranks) < mesh.size}
        own = [tuple(kind(rank)) for kind in kinds]
        shares, same_rows, copies, sharded = (Group(ranks, handles.get(ranks)) for ranks in own)
        of_shards = None
        if mesh.shard > 1:
            handle: Any = dist.group.WORLD if sharded.handle is None else sharded.handle
            of_shards = DeviceMesh.from_group(handle, device.type, mesh_dim_names=("shard",))
        return cls(shares, same_rows, copies, sharded, of_shards)
