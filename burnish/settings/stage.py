"""Base classes of the stages' settings: of any stage, of a stage that trains, of one that learns from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.data.settings import MARKERS
from burnish.model.settings import DtypeName, ModelKind, NamedModel
from burnish.optim.settings import KINDS
from burnish.rewards.match import MatchRule
from burnish.rewards.reward import Reward
from burnish.settings.adapter import Adapter
from burnish.settings.data import DataField
from burnish.settings.data_settings import DataSettings
from burnish.settings.numbers import Positive
from burnish.settings.optimizer import DEFAULTS, OptimizationSettings
from burnish.settings.resolved import Resolved, resolved
from burnish.train.schedule import SCHEDULE_OPTIONS
from burnish.train.stop_rule import StopRule

RowContent = Literal["responses", "prompts"]
"""What a stage takes from its rows."""
MAX_NEW_TOKENS = 128
"""The default of evaluation.max_new_tokens."""
Product = Literal["language_model", "reward_model", "data"]
"""What a stage ends with."""


class EarlyStoppingSettings(Settings):
    """Early stopping."""

    patience: Positive
    """Number of consecutive evaluations without improvement after which the stage ends."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Minimum improvement: the held-out loss has to fall by more than this (in a stage rl, checkpoints.best_metric has
    to rise by more)."""


class CheckpointSettings(Settings):
    """Checkpoints that are kept, and the weights of the final model."""

    keep_last: Positive = 2
    """Number of newest checkpoints to keep."""
    keep_best: bool = False
    """Final model: the weights with the best evaluation (held-out loss, in a stage rl best_metric) instead of the
    last ones."""


class GenerationEvalSettings(Settings):
    """Generation on held-out prompts at every evaluation: eval/accuracy, and the responses in samples.jsonl."""

    generations: Annotated[int, Field(ge=0)] = 0
    """Number of held-out prompts, drawn by the seed, for which a response is generated; 0: none."""
    prompts_data: DataField | None = None
    """Data of the prompts; each source names its own format. null: the held-out rows."""
    match: MatchRule | None = None
    """Rule by which a response is right: exact, contains, number (as in burnish eval); null: exact."""
    max_new_tokens: Positive | None = None
    """Maximum number of tokens of a response; null: 128."""

    @model_validator(mode="after")
    def _something_is_generated(self) -> GenerationEvalSettings:
        for key in ("prompts_data", "match", "max_new_tokens"):
            if getattr(self, key) is not None and not self.generations:
                raise ValueError(f"evaluation.{key} needs evaluation.generations: without it no response is generated")
        return self


class StageSettings(DataSettings):
    """Settings that every stage has, also one that trains no model."""

    rows_have: ClassVar[RowContent] = "responses"
    """What the stage takes from its rows."""
    usual: ClassVar[tuple[str, ...]] = ("data", "chat_template", "max_length")
    """Keys that are set most, of the stage and of the recipe; its help on the command line shows them."""
    compares_distributions: ClassVar[bool] = False
    """Whether the policy's distributions are compared with those of a teacher, over the whole vocabulary."""
    takes_images: ClassVar[bool] = True
    """Whether its rows may have images."""
    produces: ClassVar[Product] = "language_model"
    """What the stage ends with. A stage that produces data leaves the model of the stage before it to the next one."""

    data: DataField
    """Training data: a file, a folder, a glob pattern or a dataset of the hub; or a list of these with weights or
    counts (docs/data.md)."""
    start_from: str | None = None
    """Earlier stage of the recipe whose model the stage starts from, such as sft or sft-2; null: the stage before it
    (the first stage starts from model)."""

    @property
    def model_kind(self) -> ModelKind | None:
        """Kind of the model that the stage ends with; None: it ends with data."""
        return None if self.produces == "data" else self.produces

    @property
    def rewards(self) -> Sequence[Reward]:
        """Rewards that grade responses; (): it has none.

        Raises:
            RecipeError: an unknown reward or option.
        """
        return ()

    @property
    def named_models(self) -> Sequence[NamedModel]:
        """Models that the settings name, besides the one that the stage trains."""
        return [model for reward in self.rewards for model in reward.named_models]

    @property
    def held_out_data(self) -> DataField | None:
        """Held-out data of their own; None: there are none."""
        return None

    @property
    def held_out_share(self) -> float | None:
        """Share of the prompts of `data` that is held out; None: no row of it is."""
        return None

    @property
    def tokens_to_add(self) -> tuple[str, ...]:
        """Special tokens that the stage adds to tokenizer and model."""
        return ()

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        """Key → value in force, for null defaults that follow from other settings of the stage."""
        return {}

    def require_possible(self, adapter: Adapter, dtype: DtypeName) -> None:
        """Refuses combinations with the recipe's other settings.

        Raises:
            ValueError: the stage cannot have this adapter or this data type of the weights.
        """


class TrainingSettings(StageSettings, OptimizationSettings):
    """Settings of every stage that trains a model."""

    eval_data: DataField | None = None
    """Held-out data, in the same forms as data; null: none, or eval_share."""
    eval_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the prompts of data whose rows are held out for evaluation, such as 0.05, instead of eval_data; null:
    none. Rows with the same prompt are on the same side."""
    add_tokens: Literal["template"] | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """Special tokens to add to tokenizer and model where they are missing: template (the markers of chat_template),
    or a list; null: none."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Number of passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: Positive | None = None
    """Number of optimizer steps, instead of epochs; null: the length of the epochs."""
    gradient_checkpointing: bool | Annotated[int, Field(ge=2)] = False
    """Recomputes layers in the backward pass: less memory, about a third more time. 2: every second layer, 3: every
    third, as compromises."""
    eval_every: Positive | None = None
    """Steps between evaluations; null: at both ends (before the first step and after the last)."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; null: a tenth of the stage's steps."""
    log_every: Positive = 10
    """Steps between lines of progress; metrics.jsonl has a line for every step."""
    dry_run: bool | None = None
    """Computes the largest microbatch before the first step, so that a lack of memory shows at once; null: true on
    CUDA, false elsewhere."""
    early_stopping: EarlyStoppingSettings | None = None
    """Early stopping, such as {patience: 3}; null: the stage runs to its last step."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """Checkpoints that are kept, and the weights of the final model."""

    @model_validator(mode="after")
    def _lengths_and_evaluations(self) -> TrainingSettings:
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError("epochs and max_steps both set the length of the stage; give one of them")
        if self.eval_data is not None and self.eval_share is not None:
            raise ValueError(
                "eval_data names the held-out rows, and eval_share takes them out of data; give one of the two"
            )
        if self.eval_every is not None and not self.has_held_out:
            raise ValueError("eval_every needs eval_data or eval_share: there is nothing to evaluate on")
        if self.early_stopping is not None and self.eval_every is None:
            raise ValueError("early_stopping needs eval_every (and eval_data or eval_share): it counts evaluations")
        if self.checkpoints.keep_best and not self.has_held_out:
            raise ValueError("checkpoints.keep_best needs eval_data or eval_share: evaluations find the best weights")
        return self

    @model_validator(mode="after")
    def _tokens_can_be_added(self) -> TrainingSettings:
        if self.add_tokens == "template" and not MARKERS.get(self.chat_template or ""):
            templates = ", ".join(name for name, markers in MARKERS.items() if markers)
            raise ValueError(
                f"add_tokens: template adds the tokens of chat_template: {templates}, and here chat_template is "
                f"{self.chat_template}; set one of these, or list the tokens"
            )
        if len(set(self.tokens_to_add)) < len(self.tokens_to_add):
            raise ValueError("add_tokens names a token twice")
        if any(not text or text != text.strip() for text in self.tokens_to_add):
            raise ValueError("add_tokens has a token that is empty, or begins or ends with whitespace")
        return self

    @property
    def held_out_data(self) -> DataField | None:
        return self.eval_data

    @property
    def held_out_share(self) -> float | None:
        return self.eval_share

    @property
    def has_held_out(self) -> bool:
        """Whether the stage has held-out rows, of their own or of `data`."""
        return self.eval_data is not None or self.eval_share is not None

    @property
    def tokens_to_add(self) -> tuple[str, ...]:
        """`add_tokens` as a list of tokens."""
        if self.add_tokens == "template":
            return MARKERS[self.chat_template or ""]
        return self.add_tokens or ()

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        return optimization_defaults(self)

    @property
    def draws_per_step(self) -> int:
        """Number of rows, or of prompts, per optimizer step."""
        raise NotImplementedError

    @property
    def stop_rule(self) -> StopRule:
        """Rule of early stopping and of the final weights."""
        stopping = self.early_stopping
        return StopRule(
            patience=stopping.patience if stopping else None,
            min_delta=stopping.min_delta if stopping else 0.0,
            keep_best=self.checkpoints.keep_best,
        )

    def has_dry_run(self, device: str) -> bool:
        """Whether the stage begins with a dry run, on a device of this type. On a CPU the kernel kills a process that
        runs out of memory without an error, and memory is slow to fill, so there a dry run has to be requested."""
        return device == "cuda" if self.dry_run is None else self.dry_run


def optimization_defaults(settings: OptimizationSettings) -> dict[str, Resolved]:
    """Key → value in force of null defaults of optimizer and schedule."""
    options = {f"optimizer.{option}": value for option, value in KINDS[settings.optimizer.kind].options.items()}
    shape = {f"schedule.{option}": DEFAULTS[option] for option in SCHEDULE_OPTIONS[settings.schedule_kind]}
    return {
        **resolved(options, f"optimizer.kind: {settings.optimizer.kind}"),
        **resolved({"schedule.kind": settings.schedule_kind}, "default"),
        **resolved(shape, f"schedule.kind: {settings.schedule_kind}"),
    }


class SupervisedSettings(TrainingSettings):
    """Settings of a stage that learns from the responses in rows."""

    sequences_per_step: Positive = 32
    """Rows per optimizer step: the batch size that determines the result."""
    evaluation: GenerationEvalSettings = GenerationEvalSettings()
    """Generation on held-out prompts at every evaluation."""

    @model_validator(mode="after")
    def _evaluation_has_data(self) -> SupervisedSettings:
        if self.evaluation.generations and not self.has_held_out:
            raise ValueError("evaluation.generations needs eval_data or eval_share: there are no held-out prompts")
        return self

    @property
    def resolved_defaults(self) -> Mapping[str, Resolved]:
        generation = {"evaluation.match": "exact", "evaluation.max_new_tokens": MAX_NEW_TOKENS}
        return {**super().resolved_defaults, **(resolved(generation, "default") if self.evaluation.generations else {})}

    @property
    def draws_per_step(self) -> int:
        return self.sequences_per_step
