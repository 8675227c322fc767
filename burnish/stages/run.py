"""Runs a recipe: its stages in order, in a run folder. The same call resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.config.live_code import unresumable
from burnish.config.text import flatten
from burnish.errors import RecipeError
from burnish.parallel.world import ONE_PROCESS, World
from burnish.recipe.chain import chain, starting_stage
from burnish.recipe.read import ResolvedRecipe, stage_names
from burnish.recipe.recipe import Recipe
from burnish.recipe.start_line import start_line
from burnish.run_files import DATA, LOG, MODEL
from burnish.runs.durable import write_text
from burnish.runs.extension import LengthKeys
from burnish.runs.folder import RunFolder
from burnish.runs.json_value import JSON
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.settings.resolved import Resolved
from burnish.stages.context import StageContext
from burnish.stages.data import StageData
from burnish.stages.determinism import out_of_memory_explained, repeatable
from burnish.stages.kind import StageKind, build_job, kind_of
from burnish.stages.models import device_of
from burnish.stages.named_models import require_named_models
from burnish.stages.result import RunResult, require_same_data, start_model
from burnish.train.callbacks import NO_CALLBACKS, Callbacks
from burnish.train.job import Job
from burnish.watch.environment import write_environment
from burnish.watch.progress import open_progress
from burnish.watch.tracking import Tracking, require_installed
from burnish.watch.watch import Sinks


def run(origins: ResolvedRecipe, world: World = ONE_PROCESS, *, callbacks: Callbacks = NO_CALLBACKS) -> RunResult:
    """Runs, resumes or extends the recipe's stages; returns the old result if they are finished.

    Each stage starts from the model of the stage before it, or of the one that it names. Of several processes, every
    one calls this with the same recipe, and gets the same result.

    Args:
        origins: the recipe.
        world: processes of the run.
        callbacks: functions of the user that are called during the run; they are no part of its identity.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
        Interrupted: stopped by Ctrl+C, SIGTERM or a callback after a checkpoint was written.
        DivergenceError: the loss is not finite any more.
    """
    recipe = origins.recipe
    assert recipe.output is not None, "reading a recipe gives it an output"
    require_installed(recipe.trackers)
    path = Path(recipe.output)
    lengths = LengthKeys.of(recipe)
    if (finished := RunFolder.finished_before(path, origins.identity(), lengths)) is not None:
        return RunResult(path.absolute(), finished, again=True, unread=require_same_data(recipe, path, finished))
    kinds = [kind_of(stage) for stage in recipe.stages]
    for kind, stage in zip(kinds, recipe.stages, strict=True):
        kind.validate(stage.settings)
    world.at("reading the data")
    names = stage_names(recipe)
    done = StageFolder.finished_before(path.absolute(), names)
    contexts = _contexts(recipe, kinds, len(done), world)
    number = len(done)
    model = start_model(recipe, names[number], dict(zip(names, done, strict=False)))
    first = _opened(kinds[number], StageContext.of(recipe, number, model, world) if model else contexts[number])
    text = origins.text(_resolved(recipe, kinds, contexts))
    with (
        first.background,
        RunFolder.open(path, text, origins.identity(), world, lengths) as folder,
        open_progress(folder.path / LOG, is_main=world.is_main) as progress,
        StopSignal(world) as stop,
    ):
        finished = folder.finished if folder.extension is None else None
        if finished is not None:  # by another process, since the check above
            return RunResult(folder.path, finished, again=True)
        progress.note(start_line(origins))
        tracking = Tracking(recipe.trackers, recipe.project, recipe.run_name or "", recipe.model_dump(mode="json"))
        listeners = Sinks(folder.path, folder.append_metrics, progress, tracking, world.is_main)
        for line in (*recipe.parallel.notes, *_cannot_resume(recipe)):
            progress.say(line)
        summary = _Running(recipe, kinds, folder, listeners, stop, callbacks).stages(number, first)
        listeners.report("finished")
        folder.mark_finished(summary)
        place = folder.path / MODEL
        progress.say(f"finished: the model is in {place}" if place.is_dir() else f"finished: {folder.path}")
        return RunResult(folder.path, summary, again=False)


def _cannot_resume(recipe: Recipe) -> list[str]:
    """Lines about functions that a later process cannot recognize."""
    texts = [value for _, value in flatten(recipe.model_dump(mode="json")) if isinstance(value, str)]
    return [
        f"{name.rpartition(':')[2]} captures variables or has no source text: if this run is interrupted, it cannot be "
        "resumed; put the function at the top level of a file to change that"
        for name in unresumable(texts)
    ]


@dataclass(frozen=True, eq=False, slots=True)
class _Running:
    """A run whose folder is open: executes its stages."""

    recipe: Recipe
    kinds: Sequence[StageKind[Any, Any]]
    folder: RunFolder
    listeners: Sinks
    stop: StopSignal
    callbacks: Callbacks

    def stages(self, first: int, opened: StageData[Any]) -> dict[str, JSON]:
        """Runs the stages that are not finished; returns all summaries.

        Args:
            first: index of the first of them.
            opened: its data.
        """
        if self.folder.extension is None:
            self._write_environment()
        names = stage_names(self.recipe)
        models: dict[str, Path | None] = {}
        begin: Mapping[str, int] = {}
        if len(names) == 1:
            return self._stage(0, names[0], opened, StageFolder(self.folder, self.folder.path))
        summaries: dict[str, Mapping[str, JSON]] = {}
        for number, name in enumerate(names):
            place = StageFolder.one_of_several(self.folder, name, begin, is_last=number == len(names) - 1)
            if place.finished is None:
                self._say(f"stage {name}")
                data = opened if number == first else self._open(number, start_model(self.recipe, name, models))
                summaries[name] = self._stage(number, name, data, place)
                if not place.is_last:
                    place.mark_finished(summaries[name])
            if (done := place.finished) is not None:
                summaries[name], begin = done.summary, done.offsets
                models[name] = place.model if place.model.is_dir() else None
        return {"stages": summaries}

    def _open(self, number: int, model: str | None) -> StageData[Any]:
        return _opened(self.kinds[number], StageContext.of(self.recipe, number, model, self.folder.world))

    def _stage(self, number: int, name: str, data: StageData[Any], place: StageFolder) -> dict[str, JSON]:
        """Runs or resumes a stage, and writes its model; returns its summary."""
        with (
            repeatable(self.recipe.seed, only_deterministic=self.recipe.deterministic),
            out_of_memory_explained(data.tokens_per_microbatch),
            data.at_work(place.path),
        ):
            extended = self._extended(number, name, data, place)
            if self.folder.world.is_main:
                data.when_ready(lambda: self._tell(name, data, place))
            for line in data.report():
                self._say(line)
            job = (extended or self._built(number, data, name)).with_callbacks(self.callbacks)
            for note in job.notes:
                self._say(note)
            summary = job.run(place, self.listeners, self.stop)
            artifacts = data.artifacts
            self.folder.world.at("writing the model")
            job.write_model(place, artifacts.template, artifacts.end_tokens)
            return {**summary, "data": artifacts.fingerprint, "inputs": dict(data.fingerprints)}

    def _extended(self, number: int, name: str, data: StageData[Any], place: StageFolder) -> Job | None:
        """The job of a run that is extended, after the folder became its own; None: the run is not extended.

        Raises:
            RunError: it cannot be extended; the folder is as it was, with a log line.
        """
        extension = self.folder.extension
        if extension is None or not place.is_last:
            return None
        job = self._built(number, data, name)
        job.extend(place, extension)
        self._write_environment()
        self._say(f"the run is extended:\n{extension.changed}")
        return job

    def _built(self, number: int, data: StageData[Any], name: str) -> Job:
        if self.kinds[number].roles(self.recipe, self.recipe.stages[number].settings):
            self.folder.world.at("loading the model")
            self._say(f"loading the model {data.context.reader.model}")
        return build_job(self.kinds[number], data, name)

    def _write_environment(self) -> None:
        if self.folder.world.is_main:
            write_environment(self.folder.path, device_of(self.recipe))

    def _tell(self, name: str, data: StageData[Any], place: StageFolder) -> None:
        """Logs the report of the rows, and lists invalid rows in the run folder."""
        _write_card(self.folder.path / DATA, {"stage": name, **data.card()})
        for line in data.lines():
            self._say(line)
        if unusable := data.unusable():
            write_text(place.path / "unusable.jsonl", unusable)
        else:  # a file of an earlier attempt with other rows
            (place.path / "unusable.jsonl").unlink(missing_ok=True)

    def _say(self, line: str) -> None:
        self.listeners.progress.say(line)


def _opened(kind: StageKind[Any, Any], context: StageContext[Any]) -> StageData[Any]:
    """The data of a stage, after the models that it names were checked."""
    require_named_models(context)
    data: StageData[Any] = kind.open(context)
    return data


def _write_card(path: Path, card: Mapping[str, object]) -> None:
    """Writes a stage's data card into the file with those of the other stages."""
    cards = json.loads(path.read_text(encoding="utf-8"))["stages"] if path.exists() else []
    others = [other for other in cards if other["stage"] != card["stage"]]
    write_text(path, json.dumps({"stages": [*others, card]}, indent=1, ensure_ascii=False) + "\n")


def _contexts(recipe: Recipe, kinds: Sequence[StageKind[Any, Any]], done: int, world: World) -> list[StageContext[Any]]:
    """Contexts of the stages. The data of all unfinished stages are checked before any is trained.

    Args:
        recipe: the recipe.
        kinds: kinds of its stages.
        done: number of finished stages. The next stage's data are opened by the caller.
        world: processes of the run.
    """
    contexts: list[StageContext[Any]] = [
        StageContext.of(recipe, number, world=world) for number in range(len(recipe.stages))
    ]
    if recipe.adapter.kind != "full":
        _require_no_later_tokens(recipe, contexts)
    for kind, context in list(zip(kinds, contexts, strict=True))[done + 1 :]:
        require_named_models(context)
        kind.fingerprints(context)
    return contexts


def _require_no_later_tokens(recipe: Recipe, contexts: Sequence[StageContext[Any]]) -> None:
    """Refuses new tokens in a stage that continues an adapter.

    Raises:
        RecipeError: names the stage.
    """
    stages = recipe.named_stages
    sizes = {name: len(context.reader.tokenizer) for name, context in zip(stages, contexts, strict=True)}
    for name, size in sizes.items():
        start = starting_stage(stages, name)
        if start is not None and size > sizes[start]:
            raise RecipeError(
                given=f"add_tokens of the stage {name}, with an adapter",
                rule=f"the stage {name} continues the adapter of the stage {start}, which has new tokens from its "
                "beginning",
                remedy=f"add the tokens in the stage {chain(stages, name)[0]}: add_tokens takes a list of them",
            )


def _resolved(
    recipe: Recipe, kinds: Sequence[StageKind[Any, Any]], contexts: Sequence[StageContext[Any]]
) -> dict[str, Resolved]:
    """Key of the recipe → value in force, for null defaults."""
    return {
        f"stages.{number}.{stage.method}.{key}": entry
        for number, (stage, kind, context) in enumerate(zip(recipe.stages, kinds, contexts, strict=True))
        for key, entry in {**stage.settings.resolved_defaults, **kind.derived(context)}.items()
    }
