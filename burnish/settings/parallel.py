"""Settings of runs of several processes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from burnish.config.settings import Settings
from burnish.errors import RecipeError


class Parallel(Settings):
    """Several processes that train together (docs/parallel.md)."""

    data: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Processes that hold all weights each and share the rows of a step; auto: all that were started."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a process that does not answer counts as lost, and the run ends with its name."""

    def require_size(self, size: int) -> None:
        """Verifies that the layout is one of so many processes.

        Raises:
            RecipeError: it needs more or fewer.
        """
        if self.data not in ("auto", size):
            raise RecipeError(
                given=f"parallel.data: {self.data}, and {size} processes",
                rule="the layout of a run is that of the processes that were started",
                remedy=f"start the run with --nproc {self.data} (or by torchrun), or remove parallel.data",
            )
