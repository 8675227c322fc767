"""Extension of a run: the same command with a larger max_steps or epochs continues it from a checkpoint.

`RunFolder.open` lets a folder be opened whose identity differs in the length alone; `train.extend` finds the checkpoint
that the longer run would have too, and only then commits. Until then nothing in the folder changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from burnish.errors import RunError
from burnish.recipe.recipe import Recipe
from burnish.runs.json_value import JSON, same


@dataclass(frozen=True, slots=True)
class LengthKeys:
    """Keys of a run's identity that set the length of its last stage.

    Example: ``LengthKeys("stages.0.sft.epochs", "stages.0.sft.max_steps")``.
    """

    epochs: str
    max_steps: str

    @classmethod
    def of(cls, recipe: Recipe) -> LengthKeys:
        """The keys of a recipe's last stage."""
        prefix = f"stages.{len(recipe.stages) - 1}.{recipe.stages[-1].method}"
        return cls(f"{prefix}.epochs", f"{prefix}.max_steps")

    def may_be_longer(self, old: Mapping[str, JSON], new: Mapping[str, JSON]) -> bool:
        """Whether two identities differ in the length alone, and the new one is longer as far as it tells: epochs and
        steps are compared when the data are open."""
        keys = (self.epochs, self.max_steps)
        before, now = ({key: value for key, value in identity.items() if key not in keys} for identity in (old, new))
        if not same(before, now) or same(old, new):
            return False
        steps = [identity.get(self.max_steps) for identity in (old, new)]
        if steps == [None, None]:
            steps = [identity.get(self.epochs) or 1.0 for identity in (old, new)]
        one, other = steps
        if not isinstance(one, int | float) or not isinstance(other, int | float):
            return True
        return other > one


@dataclass(frozen=True, slots=True)
class Extension:
    """A run folder that was opened with a longer run than the one that it has."""

    path: Path
    """The run folder."""
    changed: str
    """Its old and new length, a readable line for each key."""
    is_finished: bool
    """Whether the shorter run is finished."""
    commit: Callable[[], None]
    """Makes the folder that of the longer run, which is not finished. Called by every process."""


def not_extensible(extension: Extension, reason: str) -> RunError:
    """Error for a longer run that would have done other steps than those that were done."""
    return RunError(
        given=f"the run folder {extension.path} was started with another length:\n{extension.changed}\n  {reason}",
        rule="a run is extended only if the longer run would have done the same steps: the same data, rows and "
        "learning rates",
        remedy=f"train on from its model in a new folder (--model {extension.path} with another --output); a run that "
        "is to be extended later has schedule.kind=constant and schedule.warmup_ratio=0 (docs/stages.md)",
    )
