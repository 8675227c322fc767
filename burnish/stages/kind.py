"""Contract of a stage: which settings it has, how its data are opened, which models it has, and what it is built of.

A kind has no state. `registry` finds it by its name in a recipe; `run` calls its methods in the order in which they are
here. A stage that trains a model derives from `TrainingKind`, one that makes data from `StageKind`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from burnish.errors import RecipeError
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.recipe.recipe import Recipe, Stage
from burnish.settings.resolved import Resolved
from burnish.settings.stage import StageSettings, TrainingSettings
from burnish.stages.context import StageContext
from burnish.stages.data import StageData
from burnish.stages.models import device_of, load_models
from burnish.stages.role import POLICY, Role
from burnish.stages.supervised_data import data_fingerprints, opened_rows
from burnish.stages.updating import learning_rate
from burnish.train.job import Job
from burnish.types import Group

S = TypeVar("S", bound=StageSettings)
T = TypeVar("T", bound=TrainingSettings)
D = TypeVar("D", bound=StageData[Any])


class StageKind(ABC, Generic[S, D]):
    """A kind of stage. ``StageKind[MySettings, MyData]`` names its settings and its opened data."""

    settings: ClassVar[type[StageSettings]]
    """Class of its settings."""
    no_model_checks: ClassVar[str] = "this stage trains no model"
    """Reason why `burnish check` has no checks of its model; "": it has those of a language model."""

    def validate(self, settings: S) -> None:
        """Refuses settings that need more than reading to be refused, before any data are opened.

        Raises:
            UserError: the settings cannot be used, such as a user's loss that is no loss.
        """

    def fingerprints(self, context: StageContext[S]) -> Mapping[str, str]:
        """As `StageData.fingerprints`, without tokenizing rows: finds mistakes of later stages early.

        Raises:
            DataError: the data cannot be read, their format is unknown, or a filter stops the run.
        """
        settings = context.settings
        rows = opened_rows(context.reader, settings.data, settings.held_out_data, settings.held_out_share)
        return data_fingerprints(*rows)

    def derived(self, context: StageContext[S]) -> Mapping[str, Resolved]:
        """Key → value for null defaults that follow from model and device, for the resolved recipe."""
        limit = "tokens_per_microbatch" if context.settings.tokens_per_microbatch == context.reader.max_length else ""
        longest, budget = context.reader.max_length, context.reader.tokens_per_microbatch
        found = {"max_length": Resolved(longest, limit or "positions of the model")}
        if longest <= budget:  # else a microbatch holds the longest row, which is known when all are tokenized
            found["tokens_per_microbatch"] = Resolved(budget, "default of this device")
        return found

    @abstractmethod
    def open(self, context: StageContext[S]) -> D:
        """Opens the data, before any model is loaded.

        Raises:
            DataError: the data cannot be used.
        """

    def roles(self, recipe: Recipe, settings: S) -> Sequence[Role]:
        """Models that the stage has, without loading them; (): it has none."""
        return ()

    @abstractmethod
    def build(self, data: D, models: Mapping[str, Model], name: str) -> Job:
        """Builds the stage, ready to run.

        Args:
            data: its opened data.
            models: the loaded models by the name of their role.
            name: name of the stage in metrics and folders.

        Raises:
            UserError: model, adapter or device cannot be used for it.
        """


def kind_of(stage: Stage) -> StageKind[Any, Any]:
    """The kind of a recipe's stage.

    Raises:
        RecipeError: a stage from outside this package is no `StageKind`.
    """
    kind = stage.entry.kind()
    if not issubclass(kind, StageKind):
        raise RecipeError(
            given=f"stage {stage.entry.written}, which is a {kind.__name__}",
            rule="a stage is a subclass of burnish.stages.kind.StageKind",
            remedy="derive its class from it: see docs/stages.md",
        )
    made: StageKind[Any, Any] = kind()
    return made


def build_job(kind: StageKind[Any, D], data: D, name: str) -> Job:
    """Loads the models of a stage and builds it, see `StageKind.build`."""
    roles = kind.roles(data.context.recipe, data.context.settings)
    return kind.build(data, load_models(data.context, roles), name)


class TrainingKind(StageKind[T, D]):
    """A kind of stage that trains a model, the policy."""

    no_model_checks: ClassVar[str] = ""

    def validate(self, settings: T) -> None:
        self.loss(settings)

    def derived(self, context: StageContext[T]) -> Mapping[str, Resolved]:
        recipe, settings = context.recipe, context.settings
        trained = "full" if recipe.adapter.kind == "full" else recipe.adapter.method
        origin = f"default of optimizer.kind: {settings.optimizer.kind} with {trained} weights"
        rate = Resolved(learning_rate(recipe, settings), origin)
        dry_run = Resolved(settings.has_dry_run(device_of(recipe).type), "default of this device")
        return {**super().derived(context), "learning_rate": rate, "dry_run": dry_run}

    def roles(self, recipe: Recipe, settings: T) -> Sequence[Role]:
        return (Role(POLICY),)

    @abstractmethod
    def loss(self, settings: T) -> Loss:
        """The loss of the policy, new on each call, since a loss may have a state.

        Raises:
            RecipeError: a user's loss cannot be used.
        """

    def annotate(self, groups: Sequence[Group], policy: Model, settings: T, budget: int) -> Sequence[Group]:
        """Groups of rows with all streams that the loss needs, for `burnish check`.

        Args:
            groups: groups of a few rows.
            policy: the policy before training.
            settings: settings of the stage.
            budget: maximum number of tokens of a microbatch.
        """
        return groups
