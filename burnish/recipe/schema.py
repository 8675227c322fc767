"""What a user may write: the settings of a recipe and of its stages, with their rules.

Stands over `methods`: a recipe is a model, an adapter and stages. Combinations that cannot work are refused here, with
the reason, before anything is loaded.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.own_code import is_own
from burnish.config.settings import Settings
from burnish.data.lengths import Overlong
from burnish.data.maker import ControlRule
from burnish.data.rendering import TrainOn
from burnish.data.template import MARKERS
from burnish.model.load import DtypeName
from burnish.optim import OptimizerName
from burnish.recipe.data import DataField, FormatName
from burnish.schedule import Shape
from burnish.watch import TrackerName

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]

DECAY = 0.2
"""Share of the steps that wsd decays, if the recipe does not say (arXiv 2405.18392 finds 10 to 20 % enough)."""


class Adapter(Settings):
    """Which weights learn."""

    kind: Literal["full", "lora"] = "full"
    """full: all weights. lora: small matrices beside frozen weights (arXiv 2106.09685)."""
    rank: Positive = 16
    """LoRA's inner width."""
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """LoRA's scale is alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On LoRA's input. Above 0, a step depends on how it is split into microbatches."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = "all-linear"
    """Names of adapted layers."""

    @model_validator(mode="after")
    def _full_has_no_options(self) -> Adapter:
        changed = [name for name, value in self if name != "kind" and value != type(self).model_fields[name].default]
        if self.kind == "full" and changed:
            raise ValueError(f"adapter.{changed[0]} has no effect with kind: full; set kind: lora or remove it")
        return self


class Sft(Settings):
    """Supervised fine-tuning."""

    data: DataField
    """A file, a folder, a pattern or a hub set; or a list of such sources, with weights or counts (docs/data.md)."""
    eval_data: DataField | None = None
    """Held-out data, written in the same ways; null: none."""
    format: FormatName | None = None
    """What a row means: a format's name, or file.py:function; null: recognised by the columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our name: the column that has it, such as {question: problem, answer: solution}."""
    documents: Literal["file", "paragraph", "line"] = "file"
    """What one document of a text file is."""
    template: str | None = None
    """plain, chatml, llama2, llama3, gemma, mistral, or a .jinja file; null: the tokenizer's own, and plain if it has
    none."""
    template_options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """Variables that the template reads, such as enable_thinking: false."""
    add_tokens: Literal["template"] | Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None = None
    """Special tokens that tokenizer and model are given where they lack them: template (what the named template marks
    turns with), or a list; null: none."""
    train_on: TrainOn = "assistant"
    """What is learned of a conversation: assistant (all its turns), last (the last of them), answers (they without
    reasoning), reasoning, tool_calls, everything."""
    control_text: ControlRule = "text"
    """What text of control tokens in a row becomes: text (the characters that it consists of), or tokens."""
    max_length: Annotated[int, Field(ge=2)] | None = None
    """Longest row, tokens; null: the model's positions."""
    overlong: Overlong = "stop"
    """What happens to longer rows: stop with an error, drop them, cut the end of their response, or cut_turns: the
    earliest turns of their conversation. Plain text is always cut into pieces."""
    max_unusable: Fraction = 0.0
    """Share of the rows that may be unusable; they are left out, and listed in the run folder. 0: any stops the run."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the data; null: 1, unless max_steps is given."""
    max_steps: Positive | None = None
    """Optimiser steps, instead of epochs; null: as many as the epochs take."""
    sequences_per_step: Positive = 32
    """Rows per optimiser step: the batch size that matters for the result."""
    tokens_per_microbatch: Positive | None = None
    """Most tokens computed at once: a memory knob that does not change the result; null: 4096, or the longest row."""
    optimizer: OptimizerName = "adamw"
    """adamw, adamw_8bit (needs the extra `quant`), muon."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; null: 2e-5 for full weights, 2e-4 for LoRA."""
    schedule: Shape = "cosine"
    """Shape after the warm-up: constant, linear, cosine, wsd."""
    warmup: Fraction = 0.03
    """Share of the steps that warm up."""
    decay: Fraction | None = None
    """Share of the steps that decay, for wsd alone; null: 0.2."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Share of each matrix that a step takes away, times the learning rate (decoupled, arXiv 1711.05101)."""
    betas: Annotated[tuple[BelowOne, BelowOne], Field(strict=False)] = (0.9, 0.999)
    """AdamW's averages of gradients and squares."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null: no clipping."""
    loss: str = "cross_entropy"
    """cross_entropy, or a loss of your own: file.py:name (docs/methods/sft.md)."""
    loss_options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    """What a class of your own is made with."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread evenly over the vocabulary, of cross_entropy."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of (log Z)²."""
    gradient_checkpointing: bool = False
    """Compute layers again in the backward: less memory, about a third more time."""
    eval_every: Positive | None = None
    """Steps between evaluations; null: at the beginning and the end."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; null: a tenth of the run."""
    keep_checkpoints: Positive = 2
    """How many of the newest checkpoints stay."""
    log_every: Positive = 10
    """Steps between lines of progress; metrics.jsonl has every step."""

    @model_validator(mode="after")
    def _consistent(self) -> Sft:
        if self.max_steps is not None and self.epochs is not None:
            raise ValueError("epochs and max_steps both say how long the stage is; give one of them")
        if self.decay is not None and self.schedule != "wsd":
            raise ValueError(f"decay has no effect with schedule: {self.schedule}; set schedule: wsd or remove it")
        if self.schedule == "wsd" and self.warmup + (DECAY if self.decay is None else self.decay) > 1:
            raise ValueError("warmup and decay are shares of one run, their sum is at most 1")
        own = is_own(self.loss)
        if self.loss != "cross_entropy" and not own:
            raise ValueError(f"loss: {self.loss} is none; write cross_entropy, or file.py:name for one of your own")
        if own and (self.label_smoothing or self.z_loss):
            raise ValueError("label_smoothing and z_loss are parts of cross_entropy; write them into your own loss")
        if self.loss_options and not own:
            raise ValueError("loss_options are for a loss of your own (loss: file.py:name)")
        if self.eval_every is not None and self.eval_data is None:
            raise ValueError("eval_every needs eval_data: there is nothing to evaluate on")
        if self.max_length and self.tokens_per_microbatch and self.max_length > self.tokens_per_microbatch:
            raise ValueError(
                f"a row of max_length {self.max_length} cannot be split over microbatches of "
                f"{self.tokens_per_microbatch} tokens; raise tokens_per_microbatch or lower max_length"
            )
        return self

    @model_validator(mode="after")
    def _tokens_can_be_added(self) -> Sft:
        if self.add_tokens == "template" and not MARKERS.get(self.template or ""):
            marked = ", ".join(name for name, markers in MARKERS.items() if markers)
            raise ValueError(
                f"add_tokens: template adds the tokens of template: {marked}, and here template is {self.template}; "
                "name one of these, or list the tokens"
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
            return MARKERS[self.template or ""]
        return self.add_tokens or ()


class Stage(Settings):
    """One stage: a mapping with one key, the method."""

    sft: Sft

    @property
    def method(self) -> str:
        """Its only key."""
        return "sft"


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

KNOWN_ELSEWHERE = {
    "learning_rat": "learning_rate",
    "lr": "learning_rate",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "per_device_train_batch_size": "sequences_per_step (rows per optimiser step) and tokens_per_microbatch (memory)",
    "micro_batch_size": "tokens_per_microbatch (memory; it does not change the result)",
    "train_batch_size": "sequences_per_step",
    "batch_size": "sequences_per_step",
    "gradient_accumulation_steps": "sequences_per_step: microbatches follow from tokens_per_microbatch",
    "max_seq_length": "max_length",
    "sequence_len": "max_length",
    "cutoff_len": "max_length",
    "lr_scheduler_type": "schedule",
    "lr_scheduler": "schedule",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup (a share of the run)",
    "max_grad_norm": "clip",
    "label_smoothing_factor": "label_smoothing",
    "optim": "optimizer",
    "save_steps": "checkpoint_every",
    "save_total_limit": "keep_checkpoints",
    "eval_steps": "eval_every",
    "logging_steps": "log_every",
    "output_dir": "output, at the top of the recipe",
    "base_model": "model, at the top of the recipe",
    "model_name_or_path": "model, at the top of the recipe",
    "dataset": "data",
    "datasets": "data",
    "dataset_name": "data",
    "train_file": "data",
    "chat_template": "template",
    "chat_template_kwargs": "template_options",
    "chat_template_path": "template, with add_tokens for tokens that the model lacks",
    "special_tokens": "add_tokens (the tokenizer's own begin and end token stay as they are)",
    "tokens": "add_tokens",
    "add_special_tokens": "add_tokens",
    "new_special_tokens": "add_tokens",
    "additional_special_tokens": "add_tokens",
    "extra_special_tokens": "add_tokens",
    "resize_vocab": "not needed: embedding and head grow if add_tokens needs it",
    "resize_token_embeddings_to_32x": "not there: embedding and head grow exactly as far as add_tokens needs it",
    "trainable_token_indices": "not needed: what add_tokens adds is trained under LoRA too",
    "assistant_only_loss": "train_on: assistant (the default)",
    "completion_only_loss": "train_on: assistant (the default); train_on: everything learns prompts too",
    "train_on_inputs": "train_on: everything",
    "mask_history": "train_on: last",
    "roles_to_train": "train_on",
    "dataset_num_proc": "not needed: rows are prepared by as many processes as is worth it",
    "lora_r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "lora_target_modules": "adapter.targets",
    "target_modules": "targets",
    "r": "rank",
    "packing": "always on: rows are packed without padding and never see each other",
    "padding_free": "always on: rows are packed without padding",
    "sample_packing": "always on: rows are packed without padding",
    "bf16": "dtype: bfloat16, at the top of the recipe",
    "fp16": "dtype: bfloat16, at the top of the recipe",
    "torch_dtype": "dtype, at the top of the recipe",
    "report_to": "trackers, at the top of the recipe",
    "logging_dir": "output, at the top of the recipe: tensorboard writes into the run folder",
    "wandb_project": "project, at the top of the recipe",
    "wandb_name": "run_name, at the top of the recipe",
}
"""Names that TRL, axolotl and LLaMA-Factory use for the same thing."""
