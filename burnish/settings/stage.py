"""What every stage that learns from rows has: its data, its length, its cadence. Under their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.settings import Settings
from burnish.data.settings import MARKERS
from burnish.settings.data import DataField
from burnish.settings.data_settings import DataSettings
from burnish.settings.numbers import Positive
from burnish.settings.optimizer import OptimizationSettings
from burnish.stop_rule import StopRule
from burnish.tasks.match import MatchRule


class EarlyStoppingSettings(Settings):
    """When a stage ends before its last step."""

    patience: Positive
    """Evaluations without improvement, one after the other, that end it."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """The held-out loss has to fall by more than this (in a stage rl: what checkpoints.best_metric names has to
    rise)."""


class CheckpointSettings(Settings):
    """Which checkpoints stay, and which weights a stage hands on."""

    keep_last: Positive = 2
    """How many of the newest checkpoints stay."""
    keep_best: bool = False
    """The model is the best that was evaluated (by the held-out loss, in a stage rl by best_metric) instead of the
    last."""


class GenerationEvalSettings(Settings):
    """Held-out prompts that are answered at every evaluation: eval/accuracy, and samples.jsonl with the responses."""

    generations: Annotated[int, Field(ge=0)] = 0
    """How many prompts, drawn by the seed, are answered; 0: none."""
    prompts_data: DataField | None = None
    """Data whose prompts are answered, where they are not those of eval_data; each source names its own format. null:
    they are."""
    match: MatchRule | None = None
    """When a response is right: exact, contains, number (as in burnish eval); null: exact."""
    max_new_tokens: Positive | None = None
    """Most tokens of a response; null: 128."""

    @model_validator(mode="after")
    def _something_is_generated(self) -> GenerationEvalSettings:
        for key in ("prompts_data", "match", "max_new_tokens"):
            if getattr(self, key) is not None and not self.generations:
                raise ValueError(f"evaluation.{key} needs evaluation.generations: no response is written without it")
        return self


class StageSettings(DataSettings, OptimizationSettings):
    """Any stage: it learns from the answers in rows, or from its own answers to them."""

    data: DataField
    """A file, a folder, a pattern or a hub set; or a list of such sources, with weights or counts (docs/data.md)."""
    eval_data: DataField | None = None
    """Held-out data, written in the same ways; null: none."""
    add_tokens: Literal["template"] | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """Special tokens that tokenizer and model are given where they lack them: template (what chat_template marks
    turns with), or a list; null: none."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the usable rows; null: 1, unless max_steps is given."""
    max_steps: Positive | None = None
    """Optimiser steps, instead of epochs; null: as many as the epochs take."""
    gradient_checkpointing: bool | Annotated[int, Field(ge=2)] = False
    """Compute layers again in the backward: less memory, about a third more time. 2: every second layer, 3: every
    third, for what lies between."""
    eval_every: Positive | None = None
    """Steps between evaluations; null: at the beginning and the end."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; null: a tenth of the run."""
    log_every: Positive = 10
    """Steps between lines of progress; metrics.jsonl has every step."""
    dry_run: bool | None = None
    """Computes the largest microbatch before the first step, so that too little memory shows at once; null: on CUDA."""
    early_stopping: EarlyStoppingSettings | None = None
    """Evaluations without improvement that end the stage, such as {patience: 3}; null: it goes to its last step."""
    checkpoints: CheckpointSettings = CheckpointSettings()
    """Which checkpoints stay, and which weights the stage hands on."""

    @model_validator(mode="after")
    def _lengths_and_evaluations(self) -> StageSettings:
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError("epochs and max_steps both say how long the stage is; give one of them")
        if self.eval_every is not None and self.eval_data is None:
            raise ValueError("eval_every needs eval_data: there is nothing to evaluate on")
        if self.early_stopping is not None and self.eval_every is None:
            raise ValueError(
                "early_stopping needs eval_every (and eval_data): evaluations on the way are what it counts"
            )
        if self.checkpoints.keep_best and self.eval_data is None:
            raise ValueError("checkpoints.keep_best needs eval_data: the best is what evaluations find")
        return self

    @model_validator(mode="after")
    def _tokens_can_be_added(self) -> StageSettings:
        if self.add_tokens == "template" and not MARKERS.get(self.chat_template or ""):
            marked = ", ".join(name for name, markers in MARKERS.items() if markers)
            raise ValueError(
                f"add_tokens: template adds the tokens of chat_template: {marked}, and here chat_template is "
                f"{self.chat_template}; name one of these, or list the tokens"
            )
        if len(set(self.tokens_to_add)) < len(self.tokens_to_add):
            raise ValueError("add_tokens names a token twice")
        if any(not text or text != text.strip() for text in self.tokens_to_add):
            raise ValueError("add_tokens has a token that is empty, or begins or ends with white space")
        return self

    @property
    def tokens_to_add(self) -> tuple[str, ...]:
        """The tokens that `add_tokens` stands for."""
        if self.add_tokens == "template":
            return MARKERS[self.chat_template or ""]
        return self.add_tokens or ()

    @property
    def draws_per_step(self) -> int:
        """Rows that an optimiser step draws."""
        raise NotImplementedError

    @property
    def stop_rule(self) -> StopRule:
        """What ends the stage early, and which weights it hands on."""
        stopping = self.early_stopping
        return StopRule(
            patience=stopping.patience if stopping else None,
            min_delta=stopping.min_delta if stopping else 0.0,
            keep_best=self.checkpoints.keep_best,
        )

    def has_dry_run(self, device: str) -> bool:
        """Whether the largest microbatch is tried first, on a device of this type. A CPU's kernel ends a process for
        lack of memory without a word, and its memory is slow to fill, so there it is only done if asked for."""
        return device == "cuda" if self.dry_run is None else self.dry_run


class SupervisedSettings(StageSettings):
    """A stage that learns from the answers in rows."""

    sequences_per_step: Positive = 32
    """Rows per optimiser step: the batch size that matters for the result."""
    evaluation: GenerationEvalSettings = GenerationEvalSettings()
    """Held-out prompts that are answered at every evaluation."""

    @model_validator(mode="after")
    def _held_out_rows_are_there(self) -> SupervisedSettings:
        if self.evaluation.generations and self.eval_data is None:
            raise ValueError("evaluation.generations needs eval_data: there is nothing to ask")
        return self

    @property
    def draws_per_step(self) -> int:
        return self.sequences_per_step
