"""Stages from outside the package: the example of docs/stages.md, in a file or as an installed entry point; jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import burnish
from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.cli.main import _status
from burnish.errors import Interrupted, RecipeError, RunError
from burnish.recipe.read import read_recipe, stage_recipe
from burnish.recipe.recipe import recipe_of
from burnish.stages import registry
from burnish.stages.kind import kind_of
from tests.interrupting import interrupted_at

PAGE = Path(__file__).parents[2] / "docs" / "stages.md"
EXAMPLE, JOB = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_rows(folder / "train.jsonl", generate(seed=1, count=40))
    write_rows(folder / "test.jsonl", generate(seed=2, count=10))
    (folder / "my_stage.py").write_text(EXAMPLE)
    (folder / "count.py").write_text(JOB)
    return folder


def distil(world: Path, **settings: Any) -> dict[str, Any]:
    sizes = {"sequences_per_step": 8, "max_steps": 4, "learning_rate": 1e-2, "checkpoint_every": 1}
    return {"data": str(world / "train.jsonl"), "teacher_model": str(world / "model"), **sizes, **settings}


def write_recipe(world: Path, path: Path, *stages: dict[str, Any], **recipe: Any) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(yaml.safe_dump({"model": str(world / "model"), "stages": list(stages), **recipe}))
    return path


def own(world: Path, name: str = "my_stage.py:Distil") -> str:
    return str(world / name)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_command_runs_it_and_leaves_a_whole_run_folder(world, tmp_path, monkeypatch):
    """With the policy of the beginning as its teacher, the first loss is 0."""
    monkeypatch.chdir(world)
    settings = distil(world, eval_data=str(world / "test.jsonl"), eval_every=2)
    path = write_recipe(world, tmp_path / "mine.yaml", {"my_stage.py:Distil": settings})
    assert _status(["run", str(path), f"output={tmp_path / 'run'}", "log_every=1"]) == 0
    run = tmp_path / "run"
    lines = metrics(run)
    assert {line["stage"] for line in lines} == {"Distil"}
    trained = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in trained] == [1, 2, 3, 4]
    assert trained[0]["train/loss"] == pytest.approx(0, abs=1e-9)
    assert [line["step"] for line in lines if "eval/loss" in line] == [0, 2, 4]
    assert {"report.html", "recipe.yaml", "finished.json", "checkpoints", "model", "data.json"} <= {
        path.name for path in run.iterdir()
    }
    assert "Distil" in (run / "report.html").read_text()
    AutoModelForCausalLM.from_pretrained(run / "model")
    resolved = yaml.safe_load((run / "recipe.yaml").read_text())
    assert list(resolved["stages"][0]) == ["my_stage.py:Distil"]
    again = burnish.run(run / "recipe.yaml", f"output={tmp_path / 'again'}").folder
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (run, again))
    assert all(one[name].equal(two[name]) for name in one)


def test_it_learns_from_a_teacher(world, tmp_path):
    teacher = burnish.sft(
        model=str(world / "model"),
        data=str(world / "train.jsonl"),
        output=str(tmp_path / "teacher"),
        max_steps=6,
        learning_rate=1e-2,
        sequences_per_step=8,
    )
    settings = distil(world, teacher_model=str(teacher.folder / "model"), log_every=1, max_steps=8)
    done = burnish.run(write_recipe(world, tmp_path / "r.yaml", {own(world): settings}), f"output={tmp_path / 'run'}")
    losses = [line["train/loss"] for line in metrics(done.folder) if "train/loss" in line]
    assert losses[-1] < 0.5 * losses[0]


def test_it_resumes_to_the_bit_and_only_with_the_same_file(world, tmp_path):
    path = write_recipe(world, tmp_path / "r.yaml", {own(world): distil(world)})
    whole = burnish.run(path, f"output={tmp_path / 'whole'}")
    with interrupted_at(2), pytest.raises(Interrupted):
        burnish.run(path, f"output={tmp_path / 'run'}")
    changed = tmp_path / "my_stage.py"
    changed.write_text(EXAMPLE.replace("0.5 *", "0.25 *"))
    other = write_recipe(world, tmp_path / "other.yaml", {f"{changed}:Distil": distil(world)})
    with pytest.raises(RunError):
        burnish.run(other, f"output={tmp_path / 'run'}")
    resumed = burnish.run(path, f"output={tmp_path / 'run'}")
    one, two = (load_file(done.folder / "model" / "model.safetensors") for done in (whole, resumed))
    assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"teacher_model": None}, "teacher_model"),
        ({"teacher_modl": "x"}, "did you mean teacher_model?"),
        ({"learning_rat": 1.0}, "did you mean learning_rate?"),
    ],
)
def test_its_settings_are_as_strict_as_ours(world, tmp_path, settings, words):
    given = {key: value for key, value in distil(world, **settings).items() if value is not None}
    with pytest.raises(RecipeError) as caught:
        read_recipe(write_recipe(world, tmp_path / "r.yaml", {own(world): given}))
    assert words in str(caught.value)


def test_what_is_no_stage_is_refused(world, tmp_path):
    (tmp_path / "no.py").write_text("class Wrong:\n    pass\n\nclass sft:\n    pass\n")
    (tmp_path / "half.py").write_text(
        "from burnish.stages.sft.settings import SftSettings\n\nclass Half:\n    settings = SftSettings\n"
    )
    data = {"data": str(world / "train.jsonl")}
    for name, words in (
        ("no.py:Wrong", "has no settings"),
        ("no.py:sft", "is the name of a registered stage"),
        ("no.py:Missing", "has no function 'Missing'"),
        ("away.py:Distil", "does not exist"),
    ):
        with pytest.raises(RecipeError, match=words):
            read_recipe(write_recipe(world, tmp_path / "r.yaml", {str(tmp_path / name): data}))
    half = read_recipe(write_recipe(world, tmp_path / "r.yaml", {f"{tmp_path / 'half.py'}:Half": data}))
    with pytest.raises(RecipeError, match="is a subclass of"):
        kind_of(half.recipe.stages[0])


def test_two_stages_of_one_name_are_refused(world, tmp_path):
    (tmp_path / "my_stage.py").write_text(EXAMPLE)
    stages = [{own(world): distil(world)}, {f"{tmp_path / 'my_stage.py'}:Distil": distil(world)}]
    with pytest.raises(RecipeError, match="give one of the classes another name"):
        read_recipe(write_recipe(world, tmp_path / "r.yaml", *stages))


def test_keys_of_several_stages_name_theirs(world, tmp_path):
    stages = [{"sft": {"data": str(world / "train.jsonl")}}, {own(world): distil(world)}]
    path = write_recipe(world, tmp_path / "r.yaml", *stages)
    read = read_recipe(path, ["Distil.learning_rate=0.5"])
    assert [stage.settings.learning_rate for stage in read.recipe.stages] == [None, 0.5]
    with pytest.raises(RecipeError, match=r"write sft\.learning_rate, Distil\.learning_rate"):
        read_recipe(path, ["learning_rate=0.5"])


def test_a_job_leaves_the_model_to_the_next_stage(world, tmp_path):
    """Count, train, count: the trained model is that of a recipe with the training alone."""
    count = {str(world / "count.py:Count"): {"data": str(world / "train.jsonl")}}
    training = {"sft": {"data": str(world / "train.jsonl"), "max_steps": 2, "sequences_per_step": 4}}
    path = write_recipe(world, tmp_path / "r.yaml", count, training, count)
    done = burnish.run(path, f"output={tmp_path / 'run'}")
    assert [stage.get("rows") for stage in done.summary["stages"].values()] == [40, None, 40]
    assert (done.folder / "stages" / "Count" / "count.txt").read_text() == "40\n"
    assert (done.folder / "stages" / "Count-2" / "count.txt").read_text() == "40\n"
    assert not (done.folder / "stages" / "Count" / "model").exists()
    alone = burnish.run(write_recipe(world, tmp_path / "a.yaml", training), f"output={tmp_path / 'alone'}")
    one = load_file(done.folder / "stages" / "sft" / "model" / "model.safetensors")
    two = load_file(alone.folder / "model" / "model.safetensors")
    assert all(one[name].equal(two[name]) for name in one)
    assert burnish.run(path, f"output={tmp_path / 'run'}").again


def test_a_job_alone_is_a_run(world, tmp_path):
    count = {str(world / "count.py:Count"): {"data": str(world / "train.jsonl")}}
    done = burnish.run(write_recipe(world, tmp_path / "r.yaml", count), f"output={tmp_path / 'run'}")
    assert done.summary["rows"] == 40
    assert not (done.folder / "model").exists()
    assert (done.folder / "report.html").exists()


@pytest.fixture
def installed(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example as a package's entry point ``distil``."""
    (world / "my_package_of_stages.py").write_text(EXAMPLE)
    monkeypatch.syspath_prepend(world)
    point = EntryPoint("distil", "my_package_of_stages:Distil", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.ENTRY_POINTS else [])
    registry.registered.cache_clear()
    yield
    registry.registered.cache_clear()


def test_an_installed_stage_has_a_name_like_ours(installed, world, tmp_path):
    read = stage_recipe("distil", {"model": str(world / "model"), **distil(world)})
    assert read.recipe.stages[0].method == "distil"
    assert "distil" in recipe_of(registry.registered()).model_json_schema()["$defs"]["Stage"]["properties"]
    done = burnish.run(
        write_recipe(world, tmp_path / "r.yaml", {"distil": distil(world)}), f"output={tmp_path / 'run'}"
    )
    assert done.steps == 4


def test_a_package_that_is_gone_is_told(monkeypatch):
    point = EntryPoint("gone", "not_installed_at_all:Stage", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry.registered.cache_clear()
    try:
        with pytest.raises(RecipeError, match="cannot be imported"):
            stage_recipe("gone", {"model": "m", "data": "d"})
    finally:
        registry.registered.cache_clear()
