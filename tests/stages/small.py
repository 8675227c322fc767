"""Small stages of every built-in kind: rows, models, settings, and the way to a built stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from burnish.builtin.sets import builtin_rows, generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.recipe.read import ResolvedRecipe, stage_recipe
from burnish.recipe.recipe import Recipe
from burnish.stages.context import StageContext
from burnish.stages.data import StageData
from burnish.stages.kind import build_job, kind_of
from burnish.train.loop import Stage

REWARD = {"name": "length", "target": 8, "tolerance": 20, "unit": "characters"}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "sft": {"data": "train.jsonl", "eval_data": "test.jsonl"},
    "prefer": {"data": "pairs.jsonl", "eval_data": "pairs-test.jsonl"},
    "reward": {"data": "pairs.jsonl", "eval_data": "pairs-test.jsonl", "add_tokens": ["<|pad|>"]},
    "rl": {"data": "train.jsonl", "eval_data": "test.jsonl", "reward": REWARD, "max_new_tokens": 4},
    "ppo": {
        "data": "train.jsonl",
        "eval_data": "test.jsonl",
        "reward": REWARD,
        "max_new_tokens": 4,
        "minibatches_per_epoch": 1,
        "epochs_per_batch": 1,
    },
    "distill": {
        "data": "train.jsonl",
        "eval_data": "test.jsonl",
        "teacher": "other",
        "max_new_tokens": 4,
    },
}
"""Name of a built-in stage → its settings; files are in the world's folder."""
FILES = ("data", "eval_data", "teacher")


def write_world(folder: Path) -> Path:
    """Writes rows, a model, another one, and one with a further token."""
    write_untrained(folder / "model", hidden_size=32, layers=1)
    write_untrained(folder / "other", seed=5, hidden_size=32, layers=1)
    write_untrained(folder / "foreign", hidden_size=32, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder / "foreign")
    tokenizer.add_tokens(["<|more|>"])
    tokenizer.save_pretrained(folder / "foreign")
    grown = AutoModelForCausalLM.from_pretrained(folder / "foreign")
    grown.resize_token_embeddings(len(tokenizer))
    grown.save_pretrained(folder / "foreign")
    write_rows(folder / "train.jsonl", generate(seed=1, count=30))
    write_rows(folder / "test.jsonl", generate(seed=2, count=6))
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=20))
    write_rows(folder / "pairs-test.jsonl", builtin_rows("preferences", "test", count=6))
    return folder


def resolved(world: Path, method: str, **changed: object) -> ResolvedRecipe:
    given = {key: str(world / str(value)) if key in FILES else value for key, value in SETTINGS[method].items()}
    return stage_recipe(method, {"model": str(world / "model"), **given, **changed})


def recipe_of(world: Path, method: str, **changed: object) -> Recipe:
    return resolved(world, method, **changed).recipe


def settings_of(world: Path, method: str, **changed: object) -> Any:
    return recipe_of(world, method, **changed).stages[0].settings


def context_of(world: Path, method: str, **changed: object) -> StageContext[Any]:
    return StageContext.of(recipe_of(world, method, **changed))


@contextmanager
def opened(context: StageContext[Any]) -> Iterator[StageData[Any]]:
    """The data of the context's stage; background work ends with the context manager."""
    data = kind_of(context.recipe.stages[0]).open(context)
    with data.background:
        yield data


@contextmanager
def built(world: Path, method: str, **changed: object) -> Iterator[Stage]:
    """The stage, ready to run."""
    context = context_of(world, method, **changed)
    with opened(context) as data:
        stage = build_job(kind_of(context.recipe.stages[0]), data, method)
        assert isinstance(stage, Stage)
        yield stage
