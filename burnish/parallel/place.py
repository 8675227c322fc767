"""Place of a process among those that were started together, as the environment says it.

Whoever starts several processes tells each its place by the variables of ``torchrun``: RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT. ``burnish run --nproc`` sets them itself (`launch`); ``torchrun`` and ``accelerate launch``
set them for ``-m burnish run``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from burnish.errors import RecipeError

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Place:
    """A process among several. Example: ``Place(rank=1, size=4, local_rank=1, address="127.0.0.1", port=29500)``."""

    rank: int
    """Its number, from 0."""
    size: int
    """Number of all processes."""
    local_rank: int
    """Its number on this machine, from 0: that of its GPU."""
    address: str
    """Machine of the rendezvous store."""
    port: int
    has_store: bool = False
    """Whether the store is served by whoever started the processes; False: by rank 0."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """The place of this process; None: it was started alone.

        Raises:
            RecipeError: only some of the variables are set, or one is no number.
        """
        if "RANK" not in environment or "WORLD_SIZE" not in environment:
            return None
        if missing := [name for name in VARIABLES if name not in environment]:
            raise RecipeError(
                given=f"RANK and WORLD_SIZE are set, and {missing[0]} is not",
                rule="several processes find one another by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT",
                remedy="start them by burnish run --nproc N, torchrun or accelerate launch, or unset RANK",
            )
        try:
            rank, size, port = (int(environment[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
            local = int(environment.get("LOCAL_RANK", rank))
        except ValueError as error:
            raise RecipeError(
                given=f"RANK, WORLD_SIZE, LOCAL_RANK or MASTER_PORT is no number: {error}",
                rule="they are numbers, which burnish run --nproc N, torchrun or accelerate launch set",
                remedy="unset them, or correct the script that sets them",
            ) from error
        has_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return cls(rank, size, local, environment["MASTER_ADDR"], port, has_store) if size > 1 else None

    def variables(self) -> dict[str, str]:
        """The environment of a process with this place."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            "TORCHELASTIC_USE_AGENT_STORE": str(self.has_store),
        }
