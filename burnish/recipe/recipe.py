"""Settings of a recipe: a model, an adapter and stages.

Combinations that cannot work are refused here, with the reason, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from burnish.config.settings import Settings
from burnish.errors import RecipeError
from burnish.model.settings import DtypeName
from burnish.recipe.chain import numbered, require_models
from burnish.settings.adapter import Adapter
from burnish.settings.aliases import named_here
from burnish.settings.optimizer import OptimizationSettings
from burnish.settings.other_names import DTYPES
from burnish.settings.parallel import Parallel
from burnish.settings.stage import StageSettings
from burnish.settings.vision import Vision
from burnish.stages.registry import StageEntry, registered
from burnish.watch.settings import TrackerName


class Stage(Settings):
    """One stage: a mapping with one key, the method."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    entries: ClassVar[Mapping[str, StageEntry]] = MappingProxyType({})
    """Methods that may be named; `recipe_of` makes a subclass with a field for each."""

    @model_validator(mode="after")
    def _one_method(self) -> Stage:
        given = self._given
        if len(given) != 1:
            raise ValueError(
                f"a stage has one method, of {', '.join(registered())}; here are {' and '.join(given) or 'none'}: "
                "write each method as a stage of its own"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_other_methods(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def _given(self) -> dict[str, StageSettings]:
        return {name: settings for name, settings in self if settings is not None}

    @property
    def method(self) -> str:
        """Name of the stage's method."""
        return next(iter(self._given))

    @property
    def entry(self) -> StageEntry:
        """Registration of the method."""
        return self.entries[self.method]

    @property
    def settings(self) -> StageSettings:
        """Settings of the method."""
        return self._given[self.method]


class Recipe(Settings):
    """A whole recipe."""

    model: str
    """Model: a name on the hub, a folder (of a model, an adapter or a run), builtin:tiny, builtin:small or
    builtin:tiny-vision."""
    adapter: Adapter = Adapter()
    """Trained weights: all of them, or an adapter."""
    vision: Vision = Vision()
    """Images of prompts and trained parts, of a vision-language model."""
    dtype: Annotated[DtypeName, BeforeValidator(named_here(DTYPES))] = "auto"
    """Data type of the weights; auto: that of the checkpoint. 16-bit weights are trained with float32 master
    weights."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the order of the data, of initialization and of sampling."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device: auto (CUDA if available), cpu or cuda."""
    parallel: Parallel = Parallel()
    """Processes that train together."""
    output: str | None = None
    """Run folder; null: runs/ and the recipe's name."""
    trackers: Annotated[tuple[TrackerName, ...], Field(strict=False)] = ()
    """Experiment trackers: tensorboard, wandb, trackio; each needs the extra of its name. []: none."""
    project: str = "burnish"
    """Project name for trackers."""
    run_name: str | None = None
    """Run name for trackers; null: the name of the run folder."""
    deterministic: bool = True
    """Uses deterministic algorithms only, which exact resume needs."""
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
    """The stages, in order; each starts from the model of the stage before it, or of the one that its start_from
    names."""

    @model_validator(mode="after")
    def _quantized_weights_compute_in_narrow_types(self) -> Recipe:
        if self.adapter.kind == "qlora" and self.dtype == "float64":
            raise ValueError("adapter.kind: qlora computes in float32 or bfloat16, not in dtype: float64")
        return self

    @model_validator(mode="after")
    def _stages_have_their_models(self) -> Recipe:
        require_models(self.named_stages)
        return self

    @model_validator(mode="after")
    def _stages_are_possible(self) -> Recipe:
        for stage in self.stages:
            stage.settings.require_possible(self.adapter, self.dtype)
        return self

    @model_validator(mode="after")
    def _divided_weights_are_possible(self) -> Recipe:
        owners = [stage.settings for stage in self.stages]
        owners += [critic for owner in owners if (critic := getattr(owner, "critic", None)) is not None]
        kinds = [owner.optimizer.kind for owner in owners if isinstance(owner, OptimizationSettings)]
        self.parallel.require_possible(self.adapter.kind, kinds)
        return self

    @property
    def named_stages(self) -> Mapping[str, StageSettings]:
        """Name of each stage in metrics, folders and overrides → its settings, in order."""
        names = numbered([stage.method for stage in self.stages])
        return dict(zip(names, (stage.settings for stage in self.stages), strict=True))


@lru_cache(maxsize=8)
def _recipe_class(entries: tuple[StageEntry, ...]) -> type[Recipe]:
    fields: dict[str, Any] = {
        entry.name: (_settings_of(entry) | None, Field(None, description=entry.help)) for entry in entries
    }
    stage = create_model("Stage", __base__=Stage, __doc__=Stage.__doc__, **fields)
    stage.entries = {entry.name: entry for entry in entries}
    stages = Annotated[tuple[stage, ...], Field(strict=False, min_length=1)]  # type: ignore[valid-type]
    description = Recipe.model_fields["stages"].description
    return create_model(
        "Recipe", __base__=Recipe, __doc__=Recipe.__doc__, stages=(stages, Field(description=description))
    )


def _settings_of(entry: StageEntry) -> type[StageSettings]:
    settings = entry.settings()
    if not isinstance(settings, type) or not issubclass(settings, StageSettings):
        raise RecipeError(
            given=f"stage {entry.written}, which has no settings",
            rule="a stage is a subclass of burnish.stages.kind.StageKind, and its attribute settings is a subclass of "
            "burnish.settings.stage.StageSettings",
            remedy="set it: see docs/stages.md",
        )
    return settings


def recipe_of(entries: Mapping[str, StageEntry]) -> type[Recipe]:
    """Class of recipes that may name these stages; only their settings are imported."""
    return _recipe_class(tuple(entries.values()))


NOT_IDENTITY = frozenset(
    {
        "log_every",
        "log_samples_every",
        "checkpoint_every",
        "checkpoints.keep_last",
        "output",
        "trackers",
        "project",
        "run_name",
        "dry_run",
        "reward_workers",
        "parallel.data",
        "parallel.config",
        "parallel.shard",
        "parallel.tensor",
        "parallel.cpu_offload",
        "parallel.timeout_s",
    }
)
"""Keys of a recipe or a stage that may differ when a run is resumed: they do not change the weights."""
