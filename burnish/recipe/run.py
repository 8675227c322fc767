"""Running a recipe: from settings to a trained model in a run folder. The same call goes on where it stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from burnish.data import Prepared, Template, choose_template, prepare
from burnish.data.mixture import Data, open_data
from burnish.errors import ModelError, RecipeError
from burnish.loop import Rhythm, Stage
from burnish.methods import sft
from burnish.model.adapters import AdapterSettings
from burnish.model.export import export
from burnish.model.load import default_device, load_config, load_policy, load_tokenizer, max_positions
from burnish.model.policy import Policy
from burnish.optim import Optimizer, OptimizerSettings
from burnish.recipe.conditions import out_of_memory_explained, repeatable
from burnish.recipe.data import Source, sources
from burnish.recipe.read import Origins
from burnish.recipe.schema import DECAY, Adapter, Recipe, Sft
from burnish.runs import JSON, RunFolder, StopSignal, frozen_fingerprint
from burnish.runs.durable import write_text
from burnish.schedule import Schedule
from burnish.step import Trainer
from burnish.watch import (
    Progress,
    Tracking,
    count_on_terminal,
    open_progress,
    refresh_report,
    require_installed,
    write_environment,
)

TOKENS_PER_MICROBATCH = 4096
"""The default of tokens_per_microbatch, unless a row is longer."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run leaves behind."""

    folder: Path
    """The run folder."""
    summary: Mapping[str, Any]
    """What finished.json holds: steps, and the fingerprint of the data."""
    again: bool
    """True: it had been finished before, nothing was done."""


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """A stage's data, ready, and what was worked out from it."""

    tokenizer: PreTrainedTokenizerBase
    template: Template
    data: Data
    train: Prepared
    held_out: Prepared | None
    max_length: int
    tokens_per_microbatch: int

    @property
    def unusable(self) -> str:
        """JSON lines: every row that was left out because it cannot be used, with the reason."""
        sets = [prepared for prepared in (self.train, self.held_out) if prepared is not None]
        rows = [asdict(row) for prepared in sets for row in prepared.unusable]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)

    def card(self, stage: str) -> str:
        """JSON: what data.json holds, each set as its report has it."""
        roles = {"training": self.train, "held out": self.held_out}
        sets = [{"role": role, **kept.report.card()} for role, kept in roles.items() if kept is not None]
        mixture = list(self.data.lines()) if len(self.data.parts) > 1 else []
        stages = [{"stage": stage, "mixture": mixture, "sets": sets}]
        return json.dumps({"stages": stages}, indent=1, ensure_ascii=False) + "\n"

    def report(self) -> Iterator[str]:
        """Lines for people: the sources of a mixture, each set, and the first row as it is trained."""
        if len(self.data.parts) > 1:
            yield from self.data.lines()
        for prepared in (self.train, self.held_out):
            if prepared is not None:
                yield from prepared.report.lines()
        example = "".join(f"⟦{text}⟧" if learned else text for text, learned in self.train.report.example)
        yield f"the first row, with what is learned in ⟦ ⟧:\n{example}"


def run(origins: Origins) -> Finished:
    """Runs the recipe's stage, or goes on with it, or finds it finished.

    Raises:
        UserError: anything that the user can mend, with the remedy.
        Interrupted: stopped by Ctrl+C or SIGTERM after a checkpoint was written.
        DivergenceError: the loss is not finite any more.
    """
    recipe = origins.recipe
    settings = recipe.stages[0].sft
    assert recipe.output is not None, "reading a recipe gives it an output"
    require_installed(recipe.trackers)
    inputs = _read(recipe, settings)
    derived = {
        "stages.0.sft.max_length": inputs.max_length,
        "stages.0.sft.tokens_per_microbatch": inputs.tokens_per_microbatch,
        "stages.0.sft.learning_rate": _learning_rate(recipe, settings),
    }
    with (
        RunFolder.open(Path(recipe.output), origins.text(derived), origins.identity()) as folder,
        open_progress(folder.path / "log.txt") as progress,
        StopSignal() as stop,
        repeatable(recipe.seed, only_deterministic=recipe.deterministic),
        out_of_memory_explained(inputs.tokens_per_microbatch),
    ):
        if (done := folder.finished) is not None:
            return Finished(folder.path, done, again=True)
        for line in inputs.report():
            progress.say(line)
        if inputs.unusable:
            write_text(folder.path / "unusable.jsonl", inputs.unusable)
        write_text(folder.path / "data.json", inputs.card("sft"))
        write_environment(folder.path, _device(recipe))
        stage, policy = _assemble(recipe, settings, inputs)
        for note in policy.notes:
            progress.say(note)
        config = recipe.model_dump(mode="json")
        stage.run(folder, progress, stop, Tracking(recipe.trackers, recipe.project, recipe.run_name or "", config))
        return _finish(folder, stage, policy, inputs, progress)


def _read(recipe: Recipe, settings: Sft) -> Inputs:
    """Reads the data before the model is loaded, so that mistakes in it show at once."""
    tokenizer = load_tokenizer(recipe.model)
    max_length = longest_allowed(recipe, settings)
    template = choose_template(tokenizer, settings.template)

    def ready(opened: Data) -> Prepared:
        return prepare(
            opened.rows,
            tokenizer,
            template,
            format=opened.format,
            max_length=max_length,
            overlong=settings.overlong,
            train_on=settings.train_on,
            control_text=settings.control_text,
            template_options=settings.template_options,
            max_unusable=settings.max_unusable,
            told=count_on_terminal("rows made into tokens"),
        )

    data = open_stage_data(recipe, settings, settings.data)
    train = ready(data)
    held_out = ready(open_stage_data(recipe, settings, settings.eval_data)) if settings.eval_data else None
    longest = max(prepared.report.longest for prepared in (train, held_out) if prepared)
    budget = settings.tokens_per_microbatch or max(TOKENS_PER_MICROBATCH, longest)
    return Inputs(tokenizer, template, data, train, held_out, max_length, budget)


def longest_allowed(recipe: Recipe, settings: Sft) -> int:
    """The longest row, tokens: as the recipe says, or what the model's positions and a microbatch hold.

    Raises:
        ModelError: the recipe says more than the model's positions.
    """
    positions = max_positions(load_config(recipe.model))
    longest = settings.max_length or min(positions, settings.tokens_per_microbatch or positions)
    if longest > positions:
        raise ModelError(
            given=f"max_length: {longest}",
            rule=f"{recipe.model} is exact up to {positions} positions",
            remedy=f"set max_length to at most {positions}",
        )
    return longest


def open_stage_data(recipe: Recipe, settings: Sft, data: str | Source | Sequence[str | Source]) -> Data:
    """The rows that a stage's data names, read as the stage says."""
    named = sources(data, format=settings.format, columns=settings.columns, documents=settings.documents)
    return open_data(named, seed=recipe.seed)


def _assemble(recipe: Recipe, settings: Sft, inputs: Inputs) -> tuple[Stage, Policy]:
    policy = load_policy(
        recipe.model,
        adapter=_adapter(recipe.adapter),
        dtype=recipe.dtype,
        device=_device(recipe),
        gradient_checkpointing=settings.gradient_checkpointing,
    )
    method = sft(
        inputs.train,
        sequences_per_step=settings.sequences_per_step,
        seed=recipe.seed,
        epochs=settings.epochs or 1.0,
        max_steps=settings.max_steps,
        label_smoothing=settings.label_smoothing,
        z_loss=settings.z_loss,
    )
    steps = method.source.num_steps
    decay = DECAY if settings.decay is None else settings.decay
    schedule = Schedule(settings.schedule, steps, warmup=round(settings.warmup * steps), decay=round(decay * steps))
    rhythm = Rhythm(
        checkpoint_every=settings.checkpoint_every or math.ceil(steps / 10),
        keep_checkpoints=settings.keep_checkpoints,
        log_every=settings.log_every,
        eval_every=settings.eval_every,
    )
    stage = Stage(
        name="sft",
        trainer=Trainer(policy, _optimizer(recipe, settings, policy), settings.clip),
        source=method.source,
        loss=method.loss,
        schedule=schedule,
        rhythm=rhythm,
        tokens_per_microbatch=inputs.tokens_per_microbatch,
        held_out=inputs.held_out or (),
        facts={
            "the data": inputs.train.fingerprint,
            "the held-out data": inputs.held_out.fingerprint if inputs.held_out else "",
            "the model": frozen_fingerprint(policy),
        },
    )
    return stage, policy


def _device(recipe: Recipe) -> torch.device:
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            given="device: cuda",
            rule="torch sees no CUDA device on this machine",
            remedy="remove device, or check the driver and that torch was built for CUDA",
        )
    return default_device() if recipe.device == "auto" else torch.device(recipe.device)


def _optimizer(recipe: Recipe, settings: Sft, policy: Policy) -> Optimizer:
    chosen = OptimizerSettings(
        name=settings.optimizer,
        learning_rate=_learning_rate(recipe, settings),
        weight_decay=settings.weight_decay,
        betas=settings.betas,
    )
    embedding_like = [policy.causal_lm.get_input_embeddings().weight, policy.head.weight]
    return Optimizer(policy.trained_parameters(), chosen, embedding_like)


def _learning_rate(recipe: Recipe, settings: Sft) -> float:
    """LoRA's matrices want about ten times the rate of full weights (Schulman et al. 2025, LoRA without regret)."""
    return settings.learning_rate or (2e-5 if recipe.adapter.kind == "full" else 2e-4)


def _adapter(adapter: Adapter) -> AdapterSettings | None:
    if adapter.kind == "full":
        return None
    return AdapterSettings(adapter.rank, adapter.alpha, adapter.dropout, adapter.targets)


def _finish(folder: RunFolder, stage: Stage, policy: Policy, inputs: Inputs, progress: Progress) -> Finished:
    """Writes the model and says that the run is over."""
    end_tokens = inputs.train.report.end_tokens
    template = inputs.template.saved if inputs.train.report.conversations else None
    folder.replace_folder("model", lambda place: export(policy, place, template=template, end_tokens=end_tokens))
    refresh_report(folder.path, "finished", progress.say)
    summary: dict[str, JSON] = {"steps": stage.source.num_steps, "data": inputs.train.fingerprint}
    folder.mark_finished(summary)
    progress.say(f"finished: the model is in {folder.path / 'model'}")
    return Finished(folder.path, summary, again=False)
