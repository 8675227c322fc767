"""Pieces of work that a process of a group does, at the top level of a module as the group needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch import distributed as dist

from burnish.parallel.world import World


def collective_values(world: World) -> dict[str, Any]:
    """Results of every collective function on simple values."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    parameters[0].grad = torch.ones(1)
    parameters[1].grad = torch.full((1,), 3.0) if world.is_main else None
    world.sum_gradients(parameters)
    world.wait()
    own = {"all": torch.ones(())} | ({"main": torch.tensor(7.0)} if world.is_main else {})
    gathered = world.gather({"rank": world.rank, "tensor": torch.tensor([float(world.rank)])})
    return {
        "rank": world.rank,
        "gathered": [{**each, "tensor": each["tensor"].tolist()} for each in gathered],
        "sum": float(world.sum(torch.tensor(float(world.rank)))),
        "sums": {name: float(value) for name, value in world.sum(own).items()},
        "gradients": [None if each.grad is None else each.grad.tolist() for each in parameters],
        "shards": [item for shard in world.gather(list(world.share(range(7)))) for item in shard],
    }


def bytes_summed(world: World, sizes: Sequence[int]) -> int:
    """Bytes that the sum of gradients of float32 weights with so many numbers gives to all_reduce."""
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    sent: list[int] = []
    original = dist.all_reduce

    def counted(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        sent.append(tensor.nbytes)
        return original(tensor, *arguments, **options)

    with mock.patch.object(dist, "all_reduce", counted):
        world.sum_gradients(parameters)
    assert all(bool((parameter.grad == world.size).all()) for parameter in parameters)
    return sum(sent)
