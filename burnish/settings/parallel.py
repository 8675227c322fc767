"""Settings of runs of several processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.errors import RecipeError
from burnish.parallel.mesh import Mesh
from burnish.settings.other_layouts import GivenLayout, given_layout, layout_of_environment


def _settings_of(layout: GivenLayout) -> dict[str, Any]:
    return {name: getattr(layout, name) for name in ("data", "shard", "tensor", "cpu_offload")}


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
    config: str | None = None
    """A DeepSpeed ZeRO JSON or an accelerate configuration, for what the other keys of parallel leave open; null:
    none."""
    cpu_offload: bool = False
    """Whether sharded weights, gradients and the optimizer stay in the memory of the CPU."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a process that does not answer counts as lost, and the run ends with its name."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_file_says(cls, given: Any) -> Any:
        """The settings with those of the file in `config`; keys of the recipe have precedence."""
        if not isinstance(given, Mapping) or not isinstance(file := given.get("config"), str):
            return given
        return {**_settings_of(given_layout(Path(file))), **given}

    def started(self, environment: Mapping[str, str]) -> Self:
        """The settings, with the layout for which `accelerate launch` started this process if they leave it open."""
        if self.model_fields_set - {"timeout_s"} or (found := layout_of_environment(environment)) is None:
            return self
        return self.model_copy(update=_settings_of(found))

    @property
    def notes(self) -> list[str]:
        """Lines for the log about what the file in `config` has besides a layout."""
        return [] if self.config is None else list(given_layout(Path(self.config)).notes)

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
