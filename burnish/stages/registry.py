"""Registry of stages: name in a recipe → settings and kind, imported when they are needed. Imports no torch.

A stage is registered by a line in `BUILTIN`, by an installed package with an entry point of the group
``burnish.stages``, or by a recipe that names ``my_stage.py:Distil``. See docs/stages.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from burnish.config.user_code import UserCode, is_user_code
from burnish.errors import RecipeError
from burnish.settings.other_names import STAGES, stage_remedy
from burnish.similar import similar

if TYPE_CHECKING:  # the command line's help lists the stages, and must not wait for their settings
    from burnish.settings.stage import StageSettings

ENTRY_POINTS = "burnish.stages"
"""Group of entry points by which installed packages register stages."""


class StageEntry(Protocol):
    """A registered stage. Its code is imported by the first call of `settings` or `kind`."""

    @property
    def name(self) -> str:
        """Name of the stage in metrics, folders and overrides."""

    @property
    def written(self) -> str:
        """Name of the stage in a recipe file."""

    @property
    def help(self) -> str:
        """One line for the command line and for editors."""

    @property
    def identity(self) -> str:
        """sha256 of a stage in the user's file; "": the stage is part of an installed package."""

    def settings(self) -> type[StageSettings]:
        """Class of its settings."""

    def kind(self) -> type[Any]:
        """Class of its `stages.kind.StageKind`."""


@dataclass(frozen=True, slots=True)
class BuiltinStage:
    """Stage of this package: two modules in a folder, of which the settings import no torch."""

    name: str
    settings_class: str
    """``module:Class`` of its settings."""
    kind_class: str
    """``module:Class`` of its kind."""
    help: str
    identity: str = ""

    @property
    def written(self) -> str:
        return self.name

    def settings(self) -> type[StageSettings]:
        settings: type[StageSettings] = _imported(self.settings_class)
        return settings

    def kind(self) -> type[Any]:
        kind: type[Any] = _imported(self.kind_class)
        return kind


@dataclass(frozen=True, slots=True)
class InstalledStage:
    """Stage of another installed package, ``name = "module:Kind"`` in its entry points."""

    point: EntryPoint
    identity: str = ""

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def written(self) -> str:
        return self.point.name

    @property
    def help(self) -> str:
        return f"Stage {self.point.name} of {self.point.value}."

    def settings(self) -> type[StageSettings]:
        return _settings_of(self.kind())

    def kind(self) -> type[Any]:
        """Class of its kind.

        Raises:
            RecipeError: the package cannot be imported.
        """
        try:
            kind: type[Any] = self.point.load()
        except (ImportError, AttributeError) as error:
            raise RecipeError(
                given=f"stage {self.name}: {self.point.value} cannot be imported: {error}",
                rule=f"an entry point of the group {ENTRY_POINTS} names a class as module:Class",
                remedy="install the package again, or correct its entry point",
            ) from error
        return kind


@dataclass(frozen=True, slots=True)
class UserStage:
    """Stage in a user's file, ``my_stage.py:Distil``."""

    written: str
    code: UserCode

    @classmethod
    def read(cls, written: str) -> UserStage:
        """Reads and runs the file.

        Raises:
            RecipeError: there is no such file or class, or its name is that of another stage.
        """
        code = UserCode.read(written, "a stage", RecipeError)
        if code.name in registered():
            raise RecipeError(
                given=f"stage {written}",
                rule=f"{code.name} is the name of a registered stage",
                remedy="give the class another name",
            )
        return cls(written, code)

    @property
    def name(self) -> str:
        return self.code.name

    @property
    def help(self) -> str:
        return f"Stage {self.written}."

    @property
    def identity(self) -> str:
        return self.code.identity

    def settings(self) -> type[StageSettings]:
        return _settings_of(self.kind())

    def kind(self) -> type[Any]:
        kind: type[Any] = self.code.load()
        return kind


BUILTIN: Mapping[str, StageEntry] = MappingProxyType(
    {
        stage.name: stage
        for stage in (
            BuiltinStage(
                "sft",
                "burnish.stages.sft.settings:SftSettings",
                "burnish.stages.sft.build:Sft",
                "Supervised fine-tuning on the responses in a file.",
            ),
            BuiltinStage(
                "prefer",
                "burnish.stages.prefer.settings:PreferSettings",
                "burnish.stages.prefer.build:Prefer",
                "Preference optimization: DPO and its family. From pairs, rankings or labels; such as loss=simpo "
                "beta=0.3.",
            ),
            BuiltinStage(
                "reward",
                "burnish.stages.reward.settings:RewardModelSettings",
                "burnish.stages.reward.build:RewardModel",
                "Train a reward model on pairs, rankings or scores.",
            ),
            BuiltinStage(
                "rl",
                "burnish.stages.rl.settings:RlSettings",
                "burnish.stages.rl.build:Rl",
                "Reinforcement learning: GRPO and its family. On prompts; such as reward=math or "
                "reward=my.py:function.",
            ),
            BuiltinStage(
                "ppo",
                "burnish.stages.ppo.settings:PpoSettings",
                "burnish.stages.ppo.build:Ppo",
                "PPO with a critic and a KL penalty (RLHF). On prompts; such as reward=my.py:function.",
            ),
            BuiltinStage(
                "distill",
                "burnish.stages.distill.settings:DistillSettings",
                "burnish.stages.distill.build:Distill",
                "Distillation from a teacher, on the student's own responses or on given ones. On prompts; such as "
                "teacher=runs/teacher.",
            ),
        )
    }
)
"""The stages of this package, by name."""


@lru_cache(maxsize=1)
def registered() -> Mapping[str, StageEntry]:
    """The stages of this package and of installed packages, by name; those of this package have precedence."""
    installed = {point.name: InstalledStage(point) for point in entry_points(group=ENTRY_POINTS)}
    return {**BUILTIN, **{name: stage for name, stage in installed.items() if name not in BUILTIN}}


def stage_entry(written: str) -> StageEntry:
    """The stage that a recipe names: a registered one, or ``my_stage.py:Distil``.

    Raises:
        RecipeError: there is no such stage.
    """
    if is_user_code(written):
        return UserStage.read(written)
    if written not in registered():
        raise RecipeError(
            given=f"stage {written}",
            rule=f"stages are {', '.join(registered())}, or file.py:Class for your own",
            remedy=stage_remedy(written) or _similar_stage(written),
        )
    return registered()[written]


def _similar_stage(written: str) -> str:
    near = similar(written, registered())
    return f"did you mean {near[0]}?" if near else "name one of them"


def known_stages(written: Iterable[str]) -> dict[str, StageEntry]:
    """The stages among these names of a recipe file, by the name that they have elsewhere.

    Raises:
        RecipeError: a user's file cannot be used, two different stages have one name, or a stage is named as in another
            tool.
    """
    found: dict[str, StageEntry] = {}
    for name in written:
        if name in STAGES and name not in registered():
            stage_entry(name)
        if is_user_code(name) or name in registered():
            stage = stage_entry(name)
            if found.setdefault(stage.name, stage).written != name:
                raise RecipeError(
                    given=f"the stages {found[stage.name].written} and {name}",
                    rule="metrics and folders have the name of the class, so different stages have different names",
                    remedy="give one of the classes another name",
                )
    return found


def _settings_of(kind: type[Any]) -> type[StageSettings]:
    """The settings class of a kind from outside this package, unchecked: `recipe.recipe_of` refuses a wrong one."""
    settings: type[StageSettings] = getattr(kind, "settings", kind)  # inherited, if its kind extends another
    return settings


def _imported(name: str) -> Any:
    """The object ``module:name``."""
    module, _, attribute = name.partition(":")
    return vars(importlib.import_module(module))[attribute]
