"""What a user may write: a recipe is a model, an adapter and stages.

Stands over the stages' settings, under their assembly. Combinations that cannot work are refused here, with the
reason, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from burnish.config.settings import Settings
from burnish.model.settings import DtypeName
from burnish.settings.adapter import Adapter
from burnish.settings.stage import StageSettings
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.reward.settings import RewardModelSettings
from burnish.stages.rl.settings import RlSettings
from burnish.stages.sft.settings import SftSettings
from burnish.watch.settings import TrackerName

METHODS: Mapping[str, type[StageSettings]] = {
    "sft": SftSettings,
    "prefer": PreferSettings,
    "reward": RewardModelSettings,
    "rl": RlSettings,
}
"""The methods that a stage can name, and what each takes."""


class Stage(Settings):
    """One stage: a mapping with one key, the method."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    sft: SftSettings | None = None
    """Supervised fine-tuning."""
    prefer: PreferSettings | None = None
    """Learning from preferences."""
    reward: RewardModelSettings | None = None
    """A reward model."""
    rl: RlSettings | None = None
    """Learning by trying: responses that the policy writes, and rewards that judge them."""

    @model_validator(mode="after")
    def _one_method(self) -> Stage:
        given = [name for name in METHODS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a stage is one method, of {', '.join(METHODS)}; here are {' and '.join(given) or 'none'}: "
                "each method is a stage of its own"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_other_methods(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def method(self) -> str:
        """Its only key."""
        return next(name for name in METHODS if getattr(self, name) is not None)

    @property
    def settings(self) -> StageSettings:
        """What it holds."""
        held: StageSettings = getattr(self, self.method)
        return held


class Recipe(Settings):
    """A whole recipe."""

    model: str
    """A hub name, a folder (a model, an adapter, a run), or builtin:tiny."""
    adapter: Adapter = Adapter()
    """Which weights learn: all, or an adapter's."""
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

    @model_validator(mode="after")
    def _quantised_weights_are_narrow(self) -> Recipe:
        if self.adapter.kind == "qlora" and self.dtype == "float64":
            raise ValueError("adapter.kind: qlora computes in float32 or bfloat16, not in dtype: float64")
        return self

    @model_validator(mode="after")
    def _reward_models_come_last(self) -> Recipe:
        methods = [stage.method for stage in self.stages]
        if "reward" in methods and set(methods[methods.index("reward") :]) != {"reward"}:
            raise ValueError(
                "a stage begins with the model that the one before it made, and a reward model writes no answers: "
                "train it in a recipe of its own, or as the last stage"
            )
        if "reward" in methods and self.adapter.kind == "qlora":
            raise ValueError("a value head beside quantised weights is not there yet; set adapter.kind: lora or full")
        return self

    @model_validator(mode="after")
    def _trying_has_no_dropout(self) -> Recipe:
        if self.adapter.dropout and any(stage.rl is not None for stage in self.stages):
            raise ValueError(
                "adapter.dropout: responses are written without it, so training with it would compare two policies; "
                "remove it from a recipe with a stage rl"
            )
        return self

    @model_validator(mode="after")
    def _sampler_differs_where_it_is_corrected(self) -> Recipe:
        exact = self.dtype in ("float32", "float64") and self.adapter.kind != "qlora"
        for stage in self.stages:
            if exact and stage.rl is not None and stage.rl.corrects_rounding_alone:
                raise ValueError(
                    f"policy_gradient.importance_correction has no effect with dtype: {self.dtype}: responses are "
                    "written with the trainer's own weights, and their log-probabilities differ by rounding alone; "
                    "remove it"
                )
        return self


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
    }
)
"""Keys of a recipe, or of a stage of it, that may differ when a run is resumed: they cannot change its weights."""
