"""Running a recipe: from settings to a trained model in a run folder. The same call goes on where it stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.data import Prepared
from burnish.loop import Rhythm, Stage
from burnish.methods import sft
from burnish.model.export import export
from burnish.model.policy import Policy
from burnish.optim import Optimizer, OptimizerSettings
from burnish.recipe.conditions import out_of_memory_explained, repeatable
from burnish.recipe.inputs import Inputs
from burnish.recipe.policy import open_policy
from burnish.recipe.read import Origins
from burnish.recipe.schema import DECAY, Recipe, Sft
from burnish.runs import JSON, RunFolder, StopSignal, frozen_fingerprint
from burnish.runs.durable import write_text
from burnish.schedule import Schedule
from burnish.step import Trainer
from burnish.watch import Progress, open_progress


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run leaves behind."""

    folder: Path
    """The run folder."""
    summary: Mapping[str, Any]
    """What finished.json holds: steps, and the fingerprint of the data."""
    again: bool
    """True: it had been finished before, nothing was done."""


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
    if (done := RunFolder.finished_before(Path(recipe.output), origins.identity())) is not None:
        return Finished(Path(recipe.output).absolute(), done, again=True)
    inputs = Inputs.of(recipe)
    derived = {
        "stages.0.sft.max_length": inputs.opener.max_length,
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
        if (done := folder.finished) is not None:  # by another process, in this very moment
            return Finished(folder.path, done, again=True)
        inputs.feed.when_ready(lambda prepared: _tell(prepared, inputs, folder, progress))
        for line in inputs.report():
            progress.say(line)
        stage, policy = _assemble(recipe, settings, inputs)
        for note in policy.notes:
            progress.say(note)
        stage.run(folder, progress, stop)
        return _finish(folder, stage, policy, inputs, progress)


def _assemble(recipe: Recipe, settings: Sft, inputs: Inputs) -> tuple[Stage, Policy]:
    policy = open_policy(recipe, settings)
    method = sft(
        inputs.feed,
        sequences_per_step=settings.sequences_per_step,
        seed=recipe.seed,
        epochs=settings.epochs or 1.0,
        max_steps=settings.max_steps,
        shuffle=inputs.shuffle,
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
        held_out=inputs.measured_on or (),
        facts={**inputs.facts, "the model": frozen_fingerprint(policy)},
    )
    return stage, policy


def _optimizer(recipe: Recipe, settings: Sft, policy: Policy) -> Optimizer:
    chosen = OptimizerSettings(
        name=settings.optimizer,
        learning_rate=_learning_rate(recipe, settings),
        weight_decay=settings.weight_decay,
        betas=settings.betas,
    )
    ends = policy.causal_lm.get_input_embeddings(), policy.causal_lm.get_output_embeddings()
    embedding_like = [parameter for end in ends for parameter in end.parameters()]
    return Optimizer(policy.trained_parameters(), chosen, embedding_like)


def _learning_rate(recipe: Recipe, settings: Sft) -> float:
    """LoRA's matrices want about ten times the rate of full weights (Schulman et al. 2025, LoRA without regret)."""
    return settings.learning_rate or (2e-5 if recipe.adapter.kind == "full" else 2e-4)


def _tell(train: Prepared, inputs: Inputs, folder: RunFolder, progress: Progress) -> None:
    """Says what became of the rows, and lists those that cannot be used."""
    for line in train.report.lines():
        progress.say(line)
    if unusable := inputs.unusable(train):
        write_text(folder.path / "unusable.jsonl", unusable)


def _finish(folder: RunFolder, stage: Stage, policy: Policy, inputs: Inputs, progress: Progress) -> Finished:
    """Writes the model and says that the run is over."""
    train = inputs.feed.whole()
    end_tokens = train.report.end_tokens
    template = inputs.opener.template.saved if train.report.conversations else None
    folder.replace_folder("model", lambda place: export(policy, place, template=template, end_tokens=end_tokens))
    summary: dict[str, JSON] = {"steps": stage.source.num_steps, "data": train.fingerprint}
    folder.mark_finished(summary)
    progress.say(f"finished: the model is in {folder.path / 'model'}")
    return Finished(folder.path, summary, again=False)
