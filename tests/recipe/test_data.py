"""Data in a recipe: its three ways of being written, what a source leaves out, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.errors import RecipeError
from burnish.recipe.read import ResolvedRecipe, read_recipe, stage_recipe
from burnish.settings.data import read_conversion, sources
from burnish.stages.sft.settings import SftSettings


def recipe(*overrides: str) -> ResolvedRecipe:
    return stage_recipe("sft", {"model": "m", "data": "a.jsonl"}, overrides, "out")


def settings(*overrides: str) -> SftSettings:
    return recipe(*overrides).recipe.stages[0].settings


@pytest.mark.parametrize(
    "overrides",
    [
        ["data=b.jsonl#500"],
        ["data={path: b.jsonl, count: 5}"],
        ["data=[b.jsonl]"],
        ["data=[a.jsonl, {path: b.jsonl, weight: 2, name: b, columns: {question: q}}]"],
        ["columns.question=problem", "columns.answer=solution", "eval_data=[b.jsonl, c.jsonl]"],
    ],
)
def test_the_resolved_recipe_is_a_recipe(tmp_path: Path, overrides: list[str]) -> None:
    first = recipe(*overrides)
    (tmp_path / "again.yaml").write_text(first.text({}))
    again = read_recipe(tmp_path / "again.yaml")
    assert again.recipe == first.recipe
    assert again.identity() == first.identity() != recipe().identity()


def test_a_source_says_what_differs() -> None:
    chosen = settings(
        "data=[a.jsonl, {path: b.jsonl, format: chosen, columns: {}, documents: line}]",
        "format=question_answer",
        "columns={question: q}",
        "documents=paragraph",
    )
    first, second = sources(chosen.data, format=chosen.format, columns=chosen.columns, documents=chosen.documents)
    assert (first.format, first.columns, first.documents) == ("question_answer", {"question": "q"}, "paragraph")
    assert (second.format, second.columns, second.documents) == ("chosen", {}, "line")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data=[{path: a, wieght: 2}]", ["unknown key data.0.wieght", "did you mean data.0.weight?"]),
        ("data={pth: a}", ["unknown key data.pth", "did you mean data.path?"]),
        ("data={weight: 2}", ["data.path is missing"]),
        ("data=[{path: a, weight: 0}]", ["data.0.weight: 0", "greater than 0"]),
        ("data=[{path: a, weight: two}]", ["data.0.weight: 'two'", "must be a number"]),
        ("data=[{path: a, count: 0}]", ["data.0.count: 0", "greater than 0"]),
        ("data=[{path: a, format: chatt}]", ["data.0.format: chatt", "did you mean chat?"]),
        ("data=[{path: a, count: 5, stream: 5}]", ["data.0", "give one of them"]),
        ("data=[]", ["data is empty", "at least one"]),
        ("data=7", ["data: 7", "must be a string"]),
        ("data=[7]", ["data.0: 7", "must be a string"]),
        ("format=question_anwer", ["format", "did you mean question_answer?"]),
        ("columns=[a]", ["columns", "a mapping"]),
        ("documents=page", ["documents: 'page'", "'paragraph'"]),
    ],
)
def test_mistakes(override: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(override)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_function_of_ones_own_is_a_format() -> None:
    assert settings("format=folder/own.py:convert").format == "folder/own.py:convert"


def test_settings_of_a_conversion() -> None:
    conversion = read_conversion({"path": "a.csv", "format": None}, ["columns.question=q", "count=5", "seed=3"])
    assert (conversion.columns, conversion.count, conversion.seed) == ({"question": "q"}, 5, 3)
    with pytest.raises(RecipeError, match="unknown key colums"):
        read_conversion({"path": "a.csv"}, ["colums={}"])
    assert json.loads(conversion.model_dump_json())["path"] == "a.csv"
