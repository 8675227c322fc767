"""Settings of runs of several processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from burnish.config.settings import Settings
from burnish.errors import RecipeError
from burnish.parallel.mesh import Mesh

SHARDED_OPTIMIZERS = frozenset({"adamw", "sgd", "schedule_free"})
"""Optimizers that treat every number of a weight by itself, so that processes can have pieces of it."""


class Parallel(Settings):
    """Several processes that train together (docs/parallel.md)."""

    data: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Copies of the weights, which share the rows of a step; auto: as many as the processes make."""
    shard: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Processes that keep a part of every weight each and gather it to compute (FSDP2); auto: all that are left."""
    tensor: Annotated[int, Field(ge=1)] = 1
    """Processes that compute the same rows, each with a slice of every layer (tensor parallelism)."""
    cpu_offload: bool = False
    """Whether sharded weights, gradients and the optimizer stay in the memory of the CPU."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a process that does not answer counts as lost, and the run ends with its name."""

    def require_possible(self, adapter: str, optimizers: Iterable[str]) -> None:
        """Refuses what sharded weights cannot be used with.

        Args:
            adapter: its kind.
            optimizers: kinds of the optimizers of all stages.

        Raises:
            ValueError: says what to change.
        """
        if self.shard == 1 and self.tensor == 1:
            return
        if adapter == "qlora":
            raise ValueError(
                "parallel.shard or parallel.tensor with adapter.kind: qlora: quantized weights are not divided: every "
                "process has them all. Leave these keys out, or set adapter.kind: lora"
            )
        for kind in optimizers:
            if kind not in SHARDED_OPTIMIZERS:
                raise ValueError(
                    f"parallel.shard or parallel.tensor with optimizer.kind: {kind}, which needs whole matrices or has "
                    f"states of another shape; divided weights take {', '.join(sorted(SHARDED_OPTIMIZERS))}"
                )

    def mesh(self, size: int) -> Mesh:
        """The layout of so many processes.

        Raises:
            RecipeError: it needs more or fewer, or an option has no effect in it.
        """
        given, left = 1 if self.data == "auto" else self.data, size // self.tensor
        shard = max(1, left // given) if self.shard == "auto" else self.shard
        data = max(1, left // shard) if self.data == "auto" else self.data
        mesh = Mesh(data=data, shard=shard, tensor=self.tensor)
        if mesh.size != size:
            raise RecipeError(
                given=f"parallel: data {self.data}, shard {self.shard}, tensor {self.tensor}, and {size} "
                f"process{'es' if size > 1 else ''}",
                rule="data · shard · tensor is the number of processes that were started",
                remedy=f"start the run with --nproc {mesh.size} (or by torchrun), or change parallel",
            )
        if self.cpu_offload and shard == 1:
            raise RecipeError(
                given="parallel.cpu_offload, and parallel.shard is 1",
                rule="weights that are not sharded stay on the device",
                remedy="set parallel.shard, or remove parallel.cpu_offload",
            )
        return mesh
