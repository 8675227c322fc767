"""Suite of stages: what every registered stage must do, with small settings of each.

A new stage of the package needs an entry in `SETTINGS`. The example of docs/stages.md and the toy stage with a critic
pass it too, which shows that a stage from outside needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import Tensor
from typer.testing import CliRunner

import burnish
from burnish.builtin.sets import builtin_rows, generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import app
from burnish.errors import Interrupted, RecipeError
from burnish.packing import count_denominators
from burnish.recipe.read import ResolvedRecipe, read_recipe
from burnish.runs.json_value import strict_text
from burnish.stages.context import StageContext
from burnish.stages.kind import build_job, kind_of
from burnish.stages.registry import BUILTIN
from burnish.stages.role import POLICY
from burnish.train.learner import Learner
from burnish.train.loop import Stage
from burnish.train.step import measure
from burnish.types import Group
from burnish.watch.journal_lines import read_metrics, read_samples
from burnish.watch.report import read_stages
from tests.families import without_rounding
from tests.interrupting import interrupted_at
from tests.vision.small import FAMILIES, rows_of

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "stages.md").read_text(encoding="utf-8")
OUTSIDE = {"Distil": "my_stage.py:Distil", "ActorCritic": "actor_critic.py:ActorCritic"}
"""Stages in files of one's own."""

REWARD = {"name": "length", "target": 10, "tolerance": 20, "unit": "characters"}
ROLLOUTS = {
    "reward": REWARD,
    "groups_per_step": 3,
    "responses_per_prompt": 3,
    "max_new_tokens": 6,
    "reward_workers": 1,
    "kl_coef": 0.1,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "sft": {"data": "train.jsonl", "eval_data": "test.jsonl", "sequences_per_step": 6},
    "prefer": {"data": "pairs.jsonl", "eval_data": "pairs-test.jsonl", "sequences_per_step": 4, "overlong": "drop"},
    "reward": {
        "data": "pairs.jsonl",
        "eval_data": "pairs-test.jsonl",
        "sequences_per_step": 4,
        "overlong": "drop",
        "add_tokens": ["<|pad|>"],
    },
    "rl": {"data": "train.jsonl", "eval_data": "test.jsonl", **ROLLOUTS},
    "ppo": {
        "data": "train.jsonl",
        "eval_data": "test.jsonl",
        **ROLLOUTS,
        "minibatches_per_epoch": 2,
        "epochs_per_batch": 1,
        "ptx": {"data": {"path": "builtin:chat", "count": 8}, "sequences_per_step": 4},
    },
    "distill": {
        "data": "train.jsonl",
        "eval_data": "test.jsonl",
        "teacher": "teacher",
        "reward": REWARD,
        "reward_coef": 0.1,
        "groups_per_step": 3,
        "responses_per_prompt": 3,
        "max_new_tokens": 6,
        "reward_workers": 1,
    },
    "Distil": {
        "data": "train.jsonl",
        "eval_data": "test.jsonl",
        "sequences_per_step": 6,
        "teacher_model": "teacher",
    },
    "ActorCritic": {"data": "train.jsonl", "eval_data": "test.jsonl", **ROLLOUTS},
}
"""Name of a stage → settings of a small one; paths are in the world's folder."""
IMAGES = {"sft, images": "sft", "prefer, images": "prefer", "reward, images": "reward", "rl, images": "rl"}
"""Name of a case → the stage that trains a vision-language model on rows with images."""
_SPLITS = {"data": "images", "eval_data": "images-test"}
_IMAGE_FILES = {"sft": "sft", "prefer": "pairs", "reward": "pairs", "rl": "tasks"}
SHARED = {"max_steps": 4, "checkpoint_every": 1, "eval_every": 2, "learning_rate": 1e-2, "max_length": 200}
STAGES = pytest.mark.parametrize("name", [*SETTINGS, *IMAGES])


@dataclass(frozen=True)
class World:
    """Folder with data, models and stages of one's own, and the runs that were made."""

    folder: Path
    runs: dict[str, Path]

    def settings(self, name: str) -> dict[str, Any]:
        if name in IMAGES:
            kind = _IMAGE_FILES[IMAGES[name]]
            rows = {key: str(self.folder / split / f"{kind}.jsonl") for key, split in _SPLITS.items()}
            given = {key: value for key, value in SETTINGS[IMAGES[name]].items() if key != "add_tokens"}
            return {**SHARED, **given, **rows}
        files = ("data", "eval_data", "teacher", "teacher_model")
        given = {key: str(self.folder / value) if key in files else value for key, value in SETTINGS[name].items()}
        return {**SHARED, **given}

    def recipe(self, path: Path, name: str, **settings: Any) -> Path:
        written = str(self.folder / OUTSIDE[name]) if name in OUTSIDE else IMAGES.get(name, name)
        stage = {written: {**self.settings(name), **settings}}
        model = {"model": str(self.folder / "model")}
        if name in IMAGES:
            model = {"model": str(self.folder / "vision"), "vision": {"tower": "trained"}}
        path.write_text(yaml.safe_dump({**model, "stages": [stage]}))
        return path

    def whole(self, name: str) -> Path:
        """The folder of an uninterrupted run."""
        if name not in self.runs:
            recipe = self.recipe(self.folder / f"{name}.yaml", name)
            self.runs[name] = burnish.run(recipe, f"output={self.folder / 'runs' / name}").folder
        return self.runs[name]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_untrained(folder / "teacher", hidden_size=32, layers=2)
    FAMILIES[0].write(folder / "vision")
    for split, count in (("images", 24), ("images-test", 6)):
        (folder / split).mkdir()
        for kind in set(_IMAGE_FILES.values()):
            rows_of(kind, folder / split, count)
    write_rows(folder / "train.jsonl", generate(seed=1, count=30))
    write_rows(folder / "test.jsonl", generate(seed=2, count=6))
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=24))
    write_rows(folder / "pairs-test.jsonl", builtin_rows("preferences", "test", count=6))
    (folder / "my_stage.py").write_text(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0])
    (folder / "actor_critic.py").write_text((TESTS / "stages" / "actor_critic.py").read_text())
    return World(folder, {})


def test_every_registered_stage_is_in_the_suite() -> None:
    missing = BUILTIN.keys() - SETTINGS.keys()
    assert not missing, f"add small settings of {', '.join(missing)} to SETTINGS"


# The recipe


@STAGES
def test_the_recipe_is_the_same_after_a_round_trip(world: World, tmp_path: Path, name: str) -> None:
    """Written with all defaults and read again; also what a run wrote."""
    first = read_recipe(world.recipe(tmp_path / "first.yaml", name), output="runs/x")
    (tmp_path / "second.yaml").write_text(first.text({}))
    second = read_recipe(tmp_path / "second.yaml")
    assert second.identity() == first.identity()
    assert second.recipe.model_dump() == first.recipe.model_dump()
    resolved = read_recipe(world.whole(name) / "recipe.yaml").recipe.stages[0].settings
    given = first.recipe.stages[0].settings
    changed = {key for key, value in given if getattr(resolved, key) != value}
    groups = ("optimizer", "schedule", "loss_options", "policy_gradient", "gae", "critic")
    assert all(getattr(given, key) is None or key in groups for key in changed)


@STAGES
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"learning_rat": 1.0}, "did you mean learning_rate?"),
        ({"max_steps": "ten"}, "max_steps"),
        ({"epochs": 1.0}, "epochs and max_steps both set the length"),
        ({"eval_data": None}, "eval_every needs eval_data"),
        ({"optimizer": {"kind": "sgd", "betas": [0.9, 0.9]}}, "optimizer.betas has no effect"),
    ],
)
def test_mistakes_are_refused_with_a_remedy(world: World, tmp_path: Path, name: str, wrong, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(world.recipe(tmp_path / "r.yaml", name, **wrong))
    assert words in str(caught.value)
    assert caught.value.rule
    assert caught.value.remedy


@STAGES
def test_missing_data_are_told_before_a_model_is_loaded(world: World, tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.setattr("burnish.stages.kind.load_models", lambda *_: pytest.fail("a model was loaded"))
    recipe = world.recipe(tmp_path / "r.yaml", name, data=str(tmp_path / "nothing.jsonl"))
    with pytest.raises(burnish.errors.DataError, match=r"nothing\.jsonl"):
        burnish.run(recipe, f"output={tmp_path / 'run'}")


# The run


def digests(run: Path) -> dict[str, str]:
    """sha256 of the model's and the last checkpoint's tensors."""
    files = [*run.glob("model/*.safetensors"), *run.glob("checkpoints/step-4/tensors.safetensors")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def metrics(run: Path) -> list[dict[str, Any]]:
    """Lines without what depends on the clock."""
    clocked = {"tokens_per_second", "seconds_per_step", "mfu", "memory_gib", "wall_time_s"}
    clocked |= {"rollout/seconds_sampling", "rollout/seconds_grading"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clocked} for line in lines]


@STAGES
@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(world: World, tmp_path: Path, name: str, step: int) -> None:
    recipe = world.recipe(tmp_path / "r.yaml", name)
    with interrupted_at(step), pytest.raises(Interrupted):
        burnish.run(recipe, f"output={tmp_path / 'run'}")
    done = burnish.run(recipe, f"output={tmp_path / 'run'}").folder
    assert digests(done) == digests(world.whole(name)) != {}
    assert metrics(done) == metrics(world.whole(name))


@STAGES
def test_every_line_of_the_journals_is_a_record_and_nothing_else(world: World, name: str) -> None:
    run = world.whole(name)
    for journal, read in (("metrics.jsonl", read_metrics), ("samples.jsonl", read_samples)):
        lines = (run / journal).read_text().splitlines() if (run / journal).exists() else []
        assert [strict_text(record.to_line()) for record in read(run / journal)] == lines


@STAGES
def test_a_run_leaves_a_whole_folder(world: World, name: str) -> None:
    run = world.whole(name)
    assert {"recipe.yaml", "metrics.jsonl", "report.html", "log.txt", "data.json", "finished.json", "model"} <= {
        path.name for path in run.iterdir()
    }
    lines = metrics(run)
    assert {line["stage"] for line in lines} == {IMAGES.get(name, name)}
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 2, 3, 4]
    assert {line["step"] for line in lines if any(key.startswith("eval/") for key in line)} == {0, 2, 4}
    assert json.loads((run / "finished.json").read_text())["steps"] == 4
    [reported] = read_stages(run)
    assert reported.name == IMAGES.get(name, name)
    assert reported.headlines, "a metric stands at the top of the stage"
    report = (run / "report.html").read_text()
    assert IMAGES.get(name, name) in report
    assert all(headline.value in report for headline in reported.headlines)


@STAGES
def test_a_finished_run_is_not_done_again(world: World, name: str) -> None:
    before = digests(world.whole(name))
    assert burnish.run(world.folder / f"{name}.yaml", f"output={world.whole(name)}").again
    assert digests(world.whole(name)) == before


# The assembly


@contextmanager
def built(world: World, tmp_path: Path, name: str, **recipe: Any) -> Iterator[tuple[ResolvedRecipe, Stage]]:
    """The stage of a recipe, ready to run."""
    read = read_recipe(world.recipe(tmp_path / "r.yaml", name), [f"{key}={value}" for key, value in recipe.items()])
    [stage] = read.recipe.stages
    kind = kind_of(stage)
    data = kind.open(StageContext.of(read.recipe))
    with data.background:
        job = build_job(kind, data, name)
        assert isinstance(job, Stage)
        yield read, job


@STAGES
def test_roles_are_those_of_the_stage(world: World, tmp_path: Path, name: str) -> None:
    """Every trained role has a learner, the policy first, and a checkpoint its tensors."""
    with built(world, tmp_path, name) as (read, stage):
        learners = [learner.name for learner in stage.learners]
    roles = kind_of(read.recipe.stages[0]).roles(read.recipe, read.recipe.stages[0].settings)
    trained = [role.name for role in roles if role.trained]
    assert learners == trained
    assert trained[0] == POLICY
    assert len({role.name for role in roles}) == len(roles)


@STAGES
def test_the_update_does_not_depend_on_microbatches(world: World, tmp_path: Path, name: str, monkeypatch) -> None:
    """Float64 gradients of every learner, of the stage's own first step, under several budgets."""
    with built(world, tmp_path, name, dtype="float64") as (_, stage):
        groups = next(iter(stage.source))
        for learner in stage.learners:
            without_rounding(learner.model.causal_lm, monkeypatch)
            expected = gradient(learner, groups, budget=10**6)
            assert any(bool(part.any()) for part in expected.values())
            for budget in (1, 60, 300):
                assert_same(expected, gradient(learner, groups, budget), budget)


def assert_same(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], budget: int) -> None:
    for key, part in expected.items():
        error = float((found[key] - part).abs().max()) / (float(part.abs().max()) or 1.0)
        assert error < 1e-11, (key, budget, error)


def gradient(learner: Learner, groups: list[Group], budget: int) -> dict[str, Tensor]:
    learner.trainer.optimizer.clear()
    trained = [group for group in groups if not group.scored_only]
    loss = measure(learner.model, learner.loss, (group for group in groups if group.scored_only), budget)
    learner.trainer.accumulate(learner.model.pack(trained, budget), loss, count_denominators(trained))
    parameters = learner.model.trained_parameters()
    return {name: p.grad.clone() for name, p in parameters if p.grad is not None}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "Distil" else pytest.mark.slow) for name in [*SETTINGS, *IMAGES]]
)
def test_the_checks_pass(world: World, tmp_path: Path, name: str) -> None:
    recipe = world.recipe(tmp_path / "r.yaml", name)
    told = CliRunner().invoke(app, ["check", str(recipe), "--yes"])
    assert told.exit_code == 0, told.output
    assert "0 failed" in told.output
