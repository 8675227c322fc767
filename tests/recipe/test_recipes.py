"""The ready recipes: an editor takes them, they run, and each shows what it says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

import burnish
from burnish.recipe.json_schema import json_schema, schema_text
from burnish.recipe.read import read_recipe
from burnish.stages.context import StageContext
from burnish.stages.kind import kind_of
from burnish.stages.run import stage_names

FOLDER = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_an_editor_takes_it(name: str) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def test_the_schema_beside_them_is_the_present_one() -> None:
    """``burnish schema > recipes/schema.json`` makes it anew."""
    assert (FOLDER / "schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("name", NAMES)
def test_its_data_can_be_used(name: str) -> None:
    """Held-out rows too, which the three steps below leave out."""
    recipe = read_recipe(FOLDER / f"{name}.yaml").recipe
    for number in range(len(recipe.stages)):
        context = StageContext.of(recipe, number)
        kind_of(recipe.stages[number]).fingerprints(context)


@pytest.mark.parametrize("name", NAMES)
def test_three_steps(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.yaml"
    recipe = read_recipe(path).recipe
    stages = stage_names(recipe)
    changes = [
        f"{stage}.{key}"
        for stage in stages
        for key in ("epochs=null", "max_steps=3", "eval_data=null", "eval_every=null")
    ]
    for stage, written in zip(stages, yaml.safe_load(path.read_text())["stages"], strict=True):
        if any("generations" in (settings.get("evaluation") or {}) for settings in written.values()):
            changes.append(f"{stage}.evaluation={{}}")  # it needs the held-out rows
    if "ppo" in stages:  # whose steps are those of whole batches
        changes += ["ppo.epochs_per_batch=3", "ppo.minibatches_per_epoch=1"]
    done = burnish.run(path, *changes, f"output={tmp_path / 'run'}")
    assert done.steps == 3 * len(stages)
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [(stage, k) for stage in stages for k in (1, 2, 3)]
