"""Settings of a recipe: a model, an adapter and stages.

Combinations that cannot work are refused here, with the reason, before anything is loaded.
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
"""Method of a stage → class of its settings."""


class Stage(Settings):
    """One stage: a mapping with one key, the method."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    sft: SftSettings | None = None
    """Supervised fine-tuning."""
    prefer: PreferSettings | None = None
    """Preference learning: DPO and other losses on pairs, rankings or labelled responses."""
    reward: RewardModelSettings | None = None
    """Reward model training."""
    rl: RlSettings | None = None
    """Reinforcement learning: the policy generates responses, and rewards grade them."""

    @model_validator(mode="after")
    def _one_method(self) -> Stage:
        given = [name for name in METHODS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a stage has one method, of {', '.join(METHODS)}; here are {' and '.join(given) or 'none'}: "
                "write each method as a stage of its own"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_other_methods(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def method(self) -> str:
        """Name of the method."""
        return next(name for name in METHODS if getattr(self, name) is not None)

    @property
    def settings(self) -> StageSettings:
        """Settings of the method."""
        settings: StageSettings = getattr(self, self.method)
        return settings


class Recipe(Settings):
    """A whole recipe."""

    model: str
    """Model: a name on the hub, a folder (of a model, an adapter or a run), or builtin:tiny."""
    adapter: Adapter = Adapter()
    """Trained weights: all of them, or an adapter."""
    dtype: DtypeName = "auto"
    """Data type of the weights; auto: that of the checkpoint. 16-bit weights are trained with float32 master
    weights."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the order of the data, of initialization and of sampling."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device: auto (CUDA if available), cpu or cuda."""
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
    """The stages, in order; each starts from the model of the stage before it."""

    @model_validator(mode="after")
    def _quantized_weights_compute_in_narrow_types(self) -> Recipe:
        if self.adapter.kind == "qlora" and self.dtype == "float64":
            raise ValueError("adapter.kind: qlora computes in float32 or bfloat16, not in dtype: float64")
        return self

    @model_validator(mode="after")
    def _reward_models_come_last(self) -> Recipe:
        methods = [stage.method for stage in self.stages]
        if "reward" in methods and set(methods[methods.index("reward") :]) != {"reward"}:
            raise ValueError(
                "a stage starts from the model of the stage before it, and a reward model generates no responses: "
                "train it in a recipe of its own, or as the last stage"
            )
        if "reward" in methods and self.adapter.kind == "qlora":
            raise ValueError("a value head on quantized weights is not implemented; set adapter.kind: lora or full")
        return self

    @model_validator(mode="after")
    def _rl_has_no_dropout(self) -> Recipe:
        if self.adapter.dropout and any(stage.rl is not None for stage in self.stages):
            raise ValueError(
                "adapter.dropout: responses are sampled without it, so training with it would compare two policies; "
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
                    "sampled with the trainer's own weights, and their log-probabilities differ by rounding alone; "
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
"""Keys of a recipe or a stage that may differ when a run is resumed: they do not change the weights."""
