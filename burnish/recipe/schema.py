"""What a user may write: a recipe is a model, an adapter and stages.

Stands over `methods`. Combinations that cannot work are refused here, with the reason, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from burnish.config.settings import Settings
from burnish.model.load import DtypeName
from burnish.recipe.adapter import Adapter
from burnish.recipe.sft import Sft
from burnish.recipe.training import Training
from burnish.watch import TrackerName

METHODS: Mapping[str, type[Training]] = {"sft": Sft}
"""The methods that a stage can name, and what each takes."""


class Stage(Settings):
    """One stage: a mapping with one key, the method."""

    sft: Sft

    @property
    def method(self) -> str:
        """Its only key."""
        return "sft"

    @property
    def settings(self) -> Training:
        """What it holds."""
        return self.sft


class Recipe(Settings):
    """A whole recipe."""

    model: str
    """A hub name, a folder, or builtin:tiny."""
    adapter: Adapter = Adapter()
    """Which weights learn: all, or a LoRA adapter."""
    dtype: DtypeName = "auto"
    """Type of the weights; auto: the checkpoint's own. Narrow weights learn through float32 masters."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the order of the data and of all initialisation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is one."""
    output: str | None = None
    """The run folder; null: runs/ and the recipe's name."""
    trackers: Annotated[tuple[TrackerName, ...], Field(strict=False)] = ()
    """Where figures also go: tensorboard, wandb, trackio; each needs the extra of its name. []: nowhere."""
    project: str = "burnish"
    """What trackers file the run under."""
    run_name: str | None = None
    """What trackers call the run; null: as its folder."""
    deterministic: bool = True
    """Only algorithms that give the same bits every time; what exact resume needs."""
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
    """The stages, in order; each begins with the model that the one before it made."""


OPERATIONAL = frozenset(
    {"log_every", "checkpoint_every", "keep_checkpoints", "output", "trackers", "project", "run_name"}
)
"""Keys that may differ when a run is resumed: they cannot change its weights."""
