"""The ready recipes: an editor takes them, they run, and each shows what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
VISION = {"model": "builtin:tiny-vision", "vision.max_pixels": "null"}
HERE = {
    "code-mbpp": {
        "model": "builtin:tiny",
        "rl.data": "builtin:code",
        "rl.eval_data": "builtin:code/test",
        "rl.prompt_template": "null",
        "rl.max_resamples": "1",
        "rl.chat_template": "chatml",
        "rl.groups_per_step": "4",
        "rl.max_new_tokens": "8",
    },
    "distill-off-policy": {"distill.teacher": "builtin:small", "distill.data": "builtin:reasoning-math#32"},
    "distill-on-policy": {"distill.teacher": "builtin:small"},
    "distill-qwen3": {
        "model": "builtin:tiny",
        "distill.teacher.model": "builtin:small",  # untrained, it computes what builtin:tiny computes
        "distill.teacher.context": "Think first.",
        "distill.data": "builtin:reasoning-math",
        "distill.eval_data": "builtin:reasoning-math/test",
        "distill.chat_template": "chatml",
        "distill.chat_template_kwargs": "{}",
        "distill.groups_per_step": "4",
        "distill.max_new_tokens": "8",
    },
    "vision-sft-qwen": {**VISION, "sft.data": "builtin:shapes", "sft.chat_template": "chatml", "sft.max_length": "512"},
    "vision-prefer-qwen": {
        **VISION,
        "prefer.data": "builtin:shapes-preferences",
        "prefer.chat_template": "chatml",
        "prefer.max_length": "512",
    },
    "vision-rl-qwen": {
        **VISION,
        "rl.data": "builtin:shapes-counting",
        "rl.eval_data": "builtin:shapes-counting/test",
        "rl.chat_template": "chatml",
        "rl.prompt_template": "null",
        "rl.reward": "number",
        "rl.max_resamples": "1",
        "rl.groups_per_step": "4",
        "rl.max_new_tokens": "8",
    },
}
"""Recipe → key → value with which it runs here: what the hub has, and a teacher that another recipe trains, are
replaced by what is built in."""


def overrides(changes: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in changes.items()]


@pytest.mark.parametrize("name", NAMES)
def test_an_editor_takes_it(name: str) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def test_the_schema_beside_them_is_the_present_one() -> None:
    """``burnish schema > recipes/schema.json`` makes it anew."""
    assert (FOLDER / "schema.json").read_text(encoding="utf-8") == schema_text()


@pytest.mark.parametrize("name", NAMES)
def test_its_data_can_be_used(name: str) -> None:
    """Held-out rows too, which the three steps below leave out."""
    recipe = read_recipe(FOLDER / f"{name}.yaml", overrides(HERE.get(name, {}))).recipe
    for number in range(len(recipe.stages)):
        context = StageContext.of(recipe, number)
        kind_of(recipe.stages[number]).fingerprints(context)


@pytest.mark.parametrize("name", NAMES)
def test_three_steps(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.yaml"
    recipe = read_recipe(path).recipe
    stages = stage_names(recipe)
    changes = dict(HERE.get(name, {}))
    for stage in stages:
        changes |= {f"{stage}.{key}": "null" for key in ("epochs", "eval_data", "eval_every")}
        changes[f"{stage}.max_steps"] = "3"
    for stage, written in zip(stages, yaml.safe_load(path.read_text())["stages"], strict=True):
        if any("eval_share" in settings for settings in written.values()):
            changes[f"{stage}.eval_share"] = "null"
        if any("generations" in (settings.get("evaluation") or {}) for settings in written.values()):
            changes[f"{stage}.evaluation"] = "{}"  # it needs the held-out rows
        if any(settings.get("response_source", "student") != "student" for settings in written.values()):
            changes[f"{stage}.reward"] = "null"  # so does it, where no responses are sampled in training
    if "ppo" in stages:  # whose steps are those of whole batches
        changes |= {"ppo.epochs_per_batch": "3", "ppo.minibatches_per_epoch": "1"}
    done = burnish.run(path, *overrides(changes), f"output={tmp_path / 'run'}")
    assert done.steps == 3 * len(stages)
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    steps = [(line["stage"], line["step"]) for line in lines if "alert" not in line]
    assert steps == [(stage, k) for stage in stages for k in (1, 2, 3)]
