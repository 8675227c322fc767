"""The assembly of stages: contexts, learners, cadence, fingerprints, dry run, and what a run writes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import burnish
from burnish.errors import RecipeError
from burnish.losses.cross_entropy import CrossEntropy
from burnish.recipe.read import read_recipe
from burnish.stages.assemble import StageParts, assemble, costliest_rows, learner_of, row_source
from burnish.stages.context import StageContext
from burnish.stages.kind import StageKind, kind_of
from burnish.stages.models import load_models
from burnish.stages.registry import BUILTIN, stage_entry
from burnish.stages.role import POLICY, Role
from burnish.stages.supervised_data import SupervisedData
from burnish.types import Group
from tests.stages.small import SETTINGS, built, context_of, opened, settings_of, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("method", BUILTIN)
def test_both_ways_to_the_settings_of_a_stage_are_one(method: str) -> None:
    """A recipe is read by the registry's path, which imports no torch; a run goes by the kind."""
    entry = stage_entry(method)
    kind = entry.kind()
    assert entry is BUILTIN[method]
    assert issubclass(kind, StageKind)
    assert kind.settings is entry.settings()
    assert (entry.name, entry.written, entry.identity) == (method, method, "")
    assert entry.help.endswith(".")


def test_a_stage_that_is_not_registered_is_refused_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match=", ".join(BUILTIN)):
        stage_entry("sftt")


@pytest.mark.parametrize("method", SETTINGS)
def test_fingerprints_are_those_of_the_opened_data(world: Path, method: str) -> None:
    """A kind computes them for later stages without tokenizing; a resumed run compares those of the data."""
    context = context_of(world, method)
    early = kind_of(context.recipe.stages[0]).fingerprints(context)
    with opened(context) as data:
        assert dict(data.fingerprints) == dict(early)
    assert all(early.values())
    without = context_of(world, method, eval_data=None)
    assert kind_of(without.recipe.stages[0]).fingerprints(without)["the held-out data"] == ""


def test_a_later_stage_has_the_template_and_the_tokens_of_earlier_ones(world: Path, tmp_path: Path) -> None:
    data = {"data": str(world / "train.jsonl")}
    stages = [
        {"sft": {**data, "chat_template": "chatml", "add_tokens": "template"}},
        {"sft": {**data, "add_tokens": ["<|new|>"]}},
    ]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"model": str(world / "model"), "stages": stages}))
    recipe = read_recipe(tmp_path / "r.yaml").recipe
    first, second = (StageContext.of(recipe, number).reader for number in (0, 1))
    assert second.template.source == first.template.source
    assert "<|im_end|>" in first.tokenizer.get_vocab()
    assert {"<|im_end|>", "<|new|>"} <= set(second.tokenizer.get_vocab())
    assert "<|new|>" not in first.tokenizer.get_vocab()
    # The model of the stage before has what that stage saved with it.
    begun: StageContext[Any] = StageContext.of(recipe, 1, str(world / "other"))
    assert begun.reader.model == str(world / "other")
    assert "<|im_end|>" not in begun.reader.tokenizer.get_vocab()


PROBE = """
from burnish.stages.supervised_data import data_fingerprints, opened_rows
from burnish.settings.stage import StageSettings
from burnish.stages.data import DataArtifacts, StageData
from burnish.stages.kind import StageKind
from burnish.train.job import Job


class ProbeSettings(StageSettings):
    "Nothing of its own."


class Rows(StageData[ProbeSettings]):
    fingerprints = {"the data": "of the probe"}
    artifacts = DataArtifacts(None, frozenset(), "of the probe")


class Looking(Job):
    def __init__(self, name, model):
        self.name, self.model = name, model

    def run(self, folder, listeners, stop):
        (folder.path / "begins.txt").write_text(self.model)
        return {"steps": 0}


class Probe(StageKind[ProbeSettings, Rows]):
    settings = ProbeSettings

    def open(self, context):
        return Rows(context)

    def build(self, data, models, name):
        assert models == {}
        return Looking(name, data.context.reader.model)
"""


def test_a_stage_begins_with_the_model_of_the_last_one_that_has_one(world: Path, tmp_path: Path) -> None:
    """And a stage without roles has no models."""
    (tmp_path / "probe.py").write_text(PROBE)
    data = str(world / "train.jsonl")
    probe = {str(tmp_path / "probe.py:Probe"): {"data": data}}
    stages = [probe, {"sft": {"data": data, "max_steps": 1, "sequences_per_step": 2}}, probe, probe]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"model": str(world / "model"), "stages": stages}))
    done = burnish.run(tmp_path / "r.yaml", f"output={tmp_path / 'run'}")
    begins = [done.folder / "stages" / name / "begins.txt" for name in ("Probe", "Probe-2", "Probe-3")]
    trained = str(done.folder / "stages" / "sft" / "model")
    assert [path.read_text() for path in begins] == [str(world / "model"), trained, trained]
    cards = json.loads((done.folder / "data.json").read_text())["stages"]
    assert [card["stage"] for card in cards] == ["Probe", "sft", "Probe-2", "Probe-3"]


@pytest.mark.parametrize(("max_steps", "given", "every"), [(7, None, 1), (25, None, 3), (25, 4, 4)])
def test_the_cadence_is_that_of_the_settings(world: Path, max_steps: int, given: int | None, every: int) -> None:
    """Without checkpoint_every, a checkpoint after each tenth of the steps, rounded up."""
    changed = {"eval_every": 5, "log_every": 3, "checkpoints": {"keep_last": 4}, "checkpoint_every": given}
    with built(world, "sft", max_steps=max_steps, sequences_per_step=2, **changed) as stage:
        cadence = stage.cadence
        assert stage.source.num_steps == max_steps
    assert (cadence.checkpoint_every, cadence.keep_last) == (every, 4)
    assert (cadence.eval_every, cadence.log_every) == (5, 3)


def test_the_learner_has_the_optimizer_the_schedule_and_the_budget_of_the_recipe(world: Path) -> None:
    changed = {
        "optimizer": {"kind": "sgd", "momentum": 0.5, "max_grad_norm": 0.3},
        "learning_rate": 0.2,
        "schedule": {"kind": "linear", "warmup_ratio": 0.25},
        "tokens_per_microbatch": 77,
        "neftune_alpha": 5.0,
    }
    with built(world, "sft", max_steps=8, sequences_per_step=2, max_length=70, **changed) as stage:
        [learner] = stage.learners
    assert (learner.name, learner.tokens_per_microbatch) == (POLICY, 77)
    assert learner.schedule == settings_of(world, "sft", **changed).schedule_of(8)
    assert (learner.schedule.kind, learner.schedule.total, learner.schedule.warmup_steps) == ("linear", 8, 2)
    assert [learner.learning_rate(step) for step in (1, 2)] == [0.1, 0.2]
    settings = learner.trainer.optimizer.settings
    assert (settings.kind, settings.learning_rate, settings.momentum) == ("sgd", 0.2, 0.5)
    assert learner.trainer.max_grad_norm == 0.3
    assert learner.trainer.neftune is not None
    assert learner.trainer.neftune.alpha == 5.0
    assert learner.loss == CrossEntropy()


@pytest.mark.parametrize("method", SETTINGS)
def test_every_built_in_stage_is_assembled(world: Path, method: str) -> None:
    """Policy first, an evaluator for the held-out data, fingerprints of data, model and loss."""
    context = context_of(world, method)
    with built(world, method, max_steps=1) as stage:
        assert stage.name == method
        assert stage.policy is stage.learners[0]
        assert stage.policy.name == POLICY
        assert len(stage.evaluators) >= 1
        early = kind_of(context.recipe.stages[0]).fingerprints(context)
        assert {**stage.fingerprints, **early} == stage.fingerprints
        assert {"the model", "the loss"} <= set(stage.fingerprints)
        assert stage.fingerprints["the loss"] == ""
    with built(world, method, max_steps=1, eval_data=None) as stage:
        assert list(stage.evaluators) == []


def test_a_loss_of_ones_own_is_in_the_fingerprints(world: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def loss(scores, microbatch):\n    raise AssertionError\n")
    with built(world, "sft", max_steps=1, loss=f"{tmp_path / 'mine.py'}:loss") as stage:
        assert len(stage.fingerprints["the loss"]) == 64


def test_the_loss_is_new_on_each_call(world: Path) -> None:
    """It may have a state."""
    settings = settings_of(world, "rl", policy_gradient={"entropy_target": 1.0})
    kind = BUILTIN["rl"].kind()()
    assert kind.loss(settings) is not kind.loss(settings)


@pytest.mark.parametrize(("given", "times"), [(None, 0), (False, 0), (True, 1)])
def test_groups_of_a_dry_run_are_computed_only_for_one(world: Path, given: bool | None, times: int) -> None:
    """On a CPU it has to be asked for."""
    context = context_of(world, "sft", dry_run=given, max_steps=1, device="cpu")
    asked = []

    def groups() -> Sequence[Group]:
        asked.append("asked")
        return ()

    with opened(context) as data:
        assert isinstance(data, SupervisedData)
        policy = load_models(context, (Role(POLICY),))[POLICY]
        parts = StageParts(row_source(data, data.feed), CrossEntropy(), dry_run_groups=groups)
        assemble(data, policy, "sft", parts)
    assert len(asked) == times


@pytest.mark.parametrize("method", SETTINGS)
def test_a_dry_run_is_that_of_the_largest_microbatch(world: Path, method: str) -> None:
    """It fits the budget unless one group exceeds it, and the loss can be computed on it."""
    with built(world, method, max_steps=1, dry_run=True, tokens_per_microbatch=300) as stage:
        groups = stage.dry_run_groups
        assert groups
        assert sum(group.num_tokens for group in groups) <= max(300, groups[0].num_tokens)
        for learner in stage.learners:
            learner.dry_run(groups)
            assert all(parameter.grad is None for _, parameter in learner.model.trained_parameters())
    with built(world, method, max_steps=1) as stage:
        assert list(stage.dry_run_groups) == []


def test_further_parts_are_passed_on(world: Path) -> None:
    """Notes of the model come first; learners behind the policy."""
    context = context_of(world, "sft", max_steps=3, sequences_per_step=2)
    with opened(context) as data:
        assert isinstance(data, SupervisedData)
        policy = load_models(context, (Role(POLICY),))[POLICY]
        source = row_source(data, data.feed)
        further = learner_of(data, "critic", policy, CrossEntropy(label_smoothing=0.1), source.num_steps)
        parts = StageParts(
            source,
            CrossEntropy(),
            fingerprints={"the reference": "r"},
            notes=("a note",),
            further_learners=(further,),
        )
        stage = assemble(data, policy, "mine", parts)
        assert len(costliest_rows(data)) <= 2
    assert [learner.name for learner in stage.learners] == [POLICY, "critic"]
    assert stage.learners[1] is further
    assert further.schedule == stage.learners[0].schedule
    assert list(stage.notes) == [*policy.notes, "a note"]
    assert (stage.name, stage.source, stage.fingerprints["the reference"]) == ("mine", source, "r")


def test_rows_are_drawn_by_epochs_or_steps(world: Path) -> None:
    for changed, steps in (({}, 4), ({"epochs": 2.5}, 10), ({"max_steps": 3}, 3)):
        with opened(context_of(world, "sft", sequences_per_step=8, **changed)) as data:
            assert isinstance(data, SupervisedData)
            assert row_source(data, data.feed).num_steps == steps


def test_early_stopping_is_that_of_the_settings(world: Path) -> None:
    changed = {"eval_every": 1, "early_stopping": {"patience": 3}, "checkpoints": {"keep_best": True}}
    with built(world, "sft", max_steps=2, **changed) as stage:
        assert stage.stopping.rule == settings_of(world, "sft", **changed).stop_rule
        assert (stage.stopping.rule.patience, stage.stopping.rule.keep_best) == (3, True)


def test_the_resolved_recipe_has_all_defaults_with_their_origin(world: Path, tmp_path: Path) -> None:
    done = burnish.prefer(
        model=str(world / "model"),
        data=str(world / "pairs.jsonl"),
        output=str(tmp_path / "run"),
        max_steps=1,
        sequences_per_step=2,
        max_length=200,
        overlong="drop",
    )
    lines = [line.strip() for line in (done.folder / "recipe.yaml").read_text().splitlines()]
    assert "max_length: 200  # command line" in lines
    assert "tokens_per_microbatch: 1024  # default of this device" in lines
    assert "beta: 0.1  # loss: dpo" in lines
    assert "reference: precomputed  # default" in lines
    assert "kind: cosine  # default" in lines
    assert "learning_rate: 1.0e-06  # default of optimizer.kind: adamw with full weights" in lines
    again: Any = read_recipe(done.folder / "recipe.yaml").recipe.stages[0].settings
    assert (again.max_length, again.learning_rate) == (200, 1e-6)


@pytest.mark.parametrize("method", SETTINGS)
def test_what_is_derived_is_what_the_stage_uses(world: Path, method: str) -> None:
    context = context_of(world, method)
    derived = kind_of(context.recipe.stages[0]).derived(context)
    with built(world, method, max_steps=1) as stage:
        assert derived["tokens_per_microbatch"].value == stage.policy.tokens_per_microbatch
        assert derived["learning_rate"].value == stage.policy.trainer.optimizer.settings.learning_rate
    assert derived["max_length"].value == context.reader.max_length == 512


def test_kinds_say_why_their_models_are_not_checked() -> None:
    reasons = {name: entry.kind().no_model_checks for name, entry in BUILTIN.items()}
    assert {name for name, reason in reasons.items() if not reason} == {"sft", "prefer"}
