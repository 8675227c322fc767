"""Runs a recipe: its stages in order, in a run folder. The same call resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from burnish.early_stopping import put_in
from burnish.errors import RecipeError
from burnish.model.export import export
from burnish.optim.settings import KINDS, OptimizerName
from burnish.recipe.read import ResolvedRecipe, stage_names
from burnish.recipe.recipe import Recipe
from burnish.runs.durable import write_text
from burnish.runs.folder import RunFolder
from burnish.runs.json_value import JSON
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.settings.stage import StageSettings
from burnish.stages.assemble import assemble, loss_of
from burnish.stages.determinism import out_of_memory_explained, repeatable
from burnish.stages.open_policy import device_of
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.result import RunResult, require_same_data
from burnish.stages.reward.settings import RewardModelSettings
from burnish.stages.rl.data import RLData
from burnish.stages.rl.settings import RlSettings
from burnish.stages.supervised_data import StageContext, SupervisedData
from burnish.stages.updating import learning_rate
from burnish.watch.environment import write_environment
from burnish.watch.progress import open_progress
from burnish.watch.report import refresh_report
from burnish.watch.tracking import Tracking, require_installed
from burnish.watch.watch import Sinks


def run(origins: ResolvedRecipe) -> RunResult:
    """Runs or resumes the recipe's stages; returns the old result if they are finished.

    Each stage starts from the model of the stage before it.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
        Interrupted: stopped by Ctrl+C or SIGTERM after a checkpoint was written.
        DivergenceError: the loss is not finite any more.
    """
    recipe = origins.recipe
    assert recipe.output is not None, "reading a recipe gives it an output"
    require_installed(recipe.trackers)
    path = Path(recipe.output)
    if (finished := RunFolder.finished_before(path, origins.identity())) is not None:
        return RunResult(path.absolute(), finished, again=True, unread=require_same_data(recipe, path, finished))
    for stage in recipe.stages:
        loss_of(stage.settings)
    made = StageFolder.models_before(path.absolute(), stage_names(recipe))
    openers = _openers(recipe, made)
    first = _opened(StageContext.of(recipe, len(made), str(made[-1])) if made else openers[0])
    derived = _derived(recipe, openers)
    with (
        first.background,
        RunFolder.open(path, origins.text(derived, _chosen(recipe)), origins.identity()) as folder,
        open_progress(folder.path / "log.txt") as progress,
        StopSignal() as stop,
    ):
        if (finished := folder.finished) is not None:  # by another process, since the check above
            return RunResult(folder.path, finished, again=True)
        write_environment(folder.path, device_of(recipe))
        tracking = Tracking(recipe.trackers, recipe.project, recipe.run_name or "", recipe.model_dump(mode="json"))
        listeners = Sinks(folder.path, folder.append_metrics, progress, tracking)
        summary = _Running(recipe, folder, listeners, stop).stages(first)
        refresh_report(folder.path, "finished", progress.say)
        folder.mark_finished(summary)
        progress.say(f"finished: the model is in {folder.path / 'model'}")
        return RunResult(folder.path, summary, again=False)


@dataclass(frozen=True, eq=False, slots=True)
class _Running:
    """A run in its folder."""

    recipe: Recipe
    folder: RunFolder
    listeners: Sinks
    stop: StopSignal

    def stages(self, first: SupervisedData | RLData) -> dict[str, JSON]:
        """Runs the stages that are not finished, of which the first one's data are open; returns all summaries."""
        names, model = stage_names(self.recipe), self.recipe.model
        begin: Mapping[str, int] = {}
        if len(names) == 1:
            return self._stage(names[0], first, StageFolder(self.folder, self.folder.path))
        summaries: dict[str, Mapping[str, JSON]] = {}
        for number, name in enumerate(names):
            place = StageFolder.one_of_several(self.folder, name, begin, is_last=number == len(names) - 1)
            if place.finished is None:
                self._say(f"stage {name}")
                is_first = first.opener.stage is self.recipe.stages[number].settings
                inputs = first if is_first else _opened(StageContext.of(self.recipe, number, model))
                summaries[name] = self._stage(name, inputs, place)
                if not place.is_last:
                    place.mark_finished(summaries[name])
            if (done := place.finished) is not None:
                summaries[name], model, begin = done.summary, str(place.model), done.offsets
        return {"stages": summaries}

    def _stage(self, name: str, inputs: SupervisedData | RLData, place: StageFolder) -> dict[str, JSON]:
        """Trains or resumes a stage, and writes its model; returns its summary."""
        with (
            repeatable(self.recipe.seed, only_deterministic=self.recipe.deterministic),
            out_of_memory_explained(inputs.tokens_per_microbatch),
            inputs.at_work(place.path),
        ):
            inputs.when_ready(lambda: self._tell(name, inputs, place))
            for line in inputs.report():
                self._say(line)
            stage = assemble(self.recipe, inputs, name)
            policy = stage.trainer.policy
            for note in (*policy.notes, *stage.notes):
                self._say(note)
            stage.run(place, self.listeners, self.stop)
            learned = inputs.learned
            if reason := stage.stopping.reason():
                self._say(f"{reason}; the schedule is that of all {stage.source.num_steps} steps")
            with stage.trainer.optimizer.in_use():
                put_in(stage.stopping.weights, policy.trained_parameters())
                place.write_model(
                    lambda empty: export(policy, empty, template=learned.template, end_tokens=learned.end_tokens)
                )
            summary = stage.stopping.summary(stage.source.num_steps)
            return {**summary, "data": learned.fingerprint, "inputs": inputs.fingerprints}

    def _tell(self, name: str, inputs: SupervisedData | RLData, place: StageFolder) -> None:
        """Logs the report of the rows, and lists invalid rows in the run folder."""
        _write_card(self.folder.path / "data.json", {"stage": name, **inputs.card()})
        for line in inputs.lines():
            self._say(line)
        if unusable := inputs.unusable():
            write_text(place.path / "unusable.jsonl", unusable)
        else:  # a file of an earlier attempt with other rows
            (place.path / "unusable.jsonl").unlink(missing_ok=True)

    def _say(self, line: str) -> None:
        self.listeners.progress.say(line)


def _opened(opener: StageContext) -> SupervisedData | RLData:
    """The data of a stage, opened."""
    return RLData.of(opener) if isinstance(opener.stage, RlSettings) else SupervisedData.of(opener)


def _write_card(path: Path, card: Mapping[str, object]) -> None:
    """Writes a stage's data card into the file with those of the other stages."""
    cards = json.loads(path.read_text(encoding="utf-8"))["stages"] if path.exists() else []
    others = [other for other in cards if other["stage"] != card["stage"]]
    write_text(path, json.dumps({"stages": [*others, card]}, indent=1, ensure_ascii=False) + "\n")


def _openers(recipe: Recipe, made: Sequence[Path]) -> list[StageContext]:
    """Contexts of the stages. The data of all unfinished stages are checked before any is trained."""
    openers = [StageContext.of(recipe, number) for number in range(len(recipe.stages))]
    for number, (before, opener) in enumerate(pairwise(openers), start=1):
        if recipe.adapter.kind != "full" and len(opener.reader.tokenizer) > len(before.reader.tokenizer):
            raise RecipeError(
                given=f"add_tokens of the stage {stage_names(recipe)[number]}, with an adapter",
                rule="a later stage continues the first one's adapter, which has new tokens from its beginning",
                remedy="add the tokens in the first stage: add_tokens takes a list of them",
            )
    for opener in openers[len(made) + 1 :]:  # the next stage's data are opened by the caller
        opener.check()
    return openers


def _derived(recipe: Recipe, openers: list[StageContext]) -> dict[str, Any]:
    """Key of the recipe → value, for null defaults that follow from model and data."""
    return {
        f"stages.{number}.{recipe.stages[number].method}.{key}": value
        for number, opener in enumerate(openers)
        for key, value in {
            **_derived_of_loss(opener.stage),
            "max_length": opener.reader.max_length,
            "tokens_per_microbatch": opener.reader.tokens_per_microbatch,
            "learning_rate": learning_rate(recipe, opener.stage),
        }.items()
    }


def _chosen(recipe: Recipe) -> dict[str, Any]:
    """Key of the recipe → value, for null defaults that follow from the optimizer."""
    return {
        f"stages.{number}.{stage.method}.{key}": value
        for number, stage in enumerate(recipe.stages)
        for key, value in {
            "schedule.kind": stage.settings.schedule_kind,
            **_options_of_kind(stage.settings.optimizer.kind),
        }.items()
    }


def _options_of_kind(optimizer: OptimizerName) -> dict[str, Any]:
    return {f"optimizer.{option}": value for option, value in KINDS[optimizer].options.items()}


def _derived_of_loss(stage: StageSettings) -> dict[str, Any]:
    """Resolved options of the loss, and the rule of the reference, of a stage that has them."""
    if isinstance(stage, RewardModelSettings):
        return stage.resolved_options
    return {**stage.resolved_options, "reference": stage.reference_rule} if isinstance(stage, PreferSettings) else {}
