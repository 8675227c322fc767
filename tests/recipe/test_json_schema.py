"""The JSON schema: it takes what the recipe takes, refuses mistakes of key and type, and explains every key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from burnish.cli.main import app
from burnish.config.settings import keys
from burnish.recipe.json_schema import json_schema
from burnish.recipe.recipe import recipe_of
from burnish.stages.registry import BUILTIN

Recipe = recipe_of(BUILTIN)
SCHEMA = jsonschema.Draft202012Validator(json_schema())


def stage(**settings: object) -> dict[str, Any]:
    return {"model": "m", "stages": [{"sft": {"data": "d.jsonl", **settings}}]}


RIGHT = {
    "the least": stage(),
    "sources": stage(data=["a.jsonl", {"path": "b.jsonl", "weight": 2.0}]),
    "many": {
        **stage(epochs=2.0, learning_rate=1e-4, optimizer={"betas": [0.9, 0.95]}),
        "adapter": {"kind": "lora", "rank": 8},
    },
    "a kind alone": stage(optimizer="muon", schedule="linear"),
    "options of our loss": stage(loss_options={"label_smoothing": 0.1}),
    "options of a user's loss": stage(loss="mine.py:Loss", loss_options={"share": 0.5}),
    "two stages": {"model": "m", "stages": [{"sft": {"data": "a"}}, {"sft": {"data": "b"}}]},
}
WRONG = {
    "no model": {"stages": [{"sft": {"data": "d"}}]},
    "no stage": {"model": "m", "stages": []},
    "an unknown key": stage(learning_rat=1e-4),
    "a text for a number": stage(max_steps="ten"),
    "none of the choices": stage(schedule="cosin"),
    "another kind": stage(optimizer="adamm"),
    "an unknown key of a group": stage(optimizer={"kind": "muon", "learning_rate": 1e-4}),
    "out of range": stage(schedule={"warmup_ratio": 2.0}),
    "an unknown method": {"model": "m", "stages": [{"dpo": {"data": "d"}}]},
}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("case", RIGHT)
def test_what_a_recipe_takes(case: str) -> None:
    Recipe.model_validate(RIGHT[case])
    SCHEMA.validate(RIGHT[case])


@pytest.mark.parametrize("case", WRONG)
def test_what_it_does_not(case: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Recipe.model_validate(WRONG[case])
    assert not SCHEMA.is_valid(WRONG[case])


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in [schema, *schema["$defs"].values()]:
        for name, entry in record["properties"].items():
            yield name, {**schema["$defs"].get(entry.get("$ref", "").rpartition("/")[2], {}), **entry}


def test_every_key_is_explained() -> None:
    described = dict(properties(json_schema()))
    assert {key.rpartition(".")[2] for key in keys(Recipe)} - {"*"} == set(described)
    assert [name for name, entry in described.items() if not entry.get("description")] == []


def test_the_verb_prints_it() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.output) == json_schema()
