"""Messages about rows that are too long: the limit in force, its origin, and no advice above the model's positions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.builtin.tiny import write_untrained
from burnish.data.limits import Limit
from burnish.data.prompts import prompts
from burnish.errors import DataError
from burnish.recipe.read import stage_recipe
from burnish.stages.context import StageContext
from tests.adapters import change_json

Write = Callable[..., str]
POSITIONS = 64


@given(tokens=st.integers(2, 500), positions=st.none() | st.integers(2, 500), longest=st.none() | st.integers(2, 900))
def test_nothing_above_the_positions_is_advised(tokens: int, positions: int | None, longest: int | None) -> None:
    limit = Limit(tokens, positions)
    advised = limit.raised(longest)
    assert (advised == "") == ((positions is not None and tokens >= positions) or (longest or tokens + 1) <= tokens)
    for number in map(int, re.findall(r"\d+", advised)):
        assert tokens < number <= (positions or 900)
    assert limit.origin == ("the model's positions" if positions is not None and tokens >= positions else "max_length")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    write_untrained(folder, hidden_size=32, layers=1)
    change_json(folder / "config.json", max_position_embeddings=POSITIONS)
    return str(folder)


ORIGINS: dict[str, tuple[dict[str, Any], str]] = {
    "the model": ({}, f"{POSITIONS} tokens (the model's positions)"),
    "the model, and the same max_length": ({"max_length": POSITIONS}, f"{POSITIONS} tokens (the model's positions)"),
    "max_length": ({"max_length": 40}, "40 tokens (max_length)"),
    "a microbatch": ({"tokens_per_microbatch": 48}, "48 tokens (tokens_per_microbatch)"),
}


def fails(model: str, path: str, stage: str = "sft", **settings: object) -> DataError:
    given = {"reward": "number", "max_new_tokens": 8} if stage == "rl" else {}
    context = StageContext.of(stage_recipe(stage, {"model": model, "data": path, **given, **settings}).recipe)
    opened = context.reader.open(path)
    with pytest.raises(DataError) as caught:
        prompts(opened.preparation, 8) if stage == "rl" else opened.preparation.whole()
    return caught.value


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("overlong", ["auto", "error", "drop", "truncate", "drop_turns"])
@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_every_message_names_the_limit_and_its_origin(
    model: str, write: Write, stage: str, overlong: str, origin: str
) -> None:
    settings, words = ORIGINS[origin]
    if stage == "rl" and overlong in ("truncate", "drop_turns"):
        return
    rows = [{"question": "why? " * 60, "answer": "so " * 60} for _ in range(3)]
    error = fails(model, write(*rows), stage, overlong=overlong, **settings)
    if overlong != "drop" or stage == "rl":
        assert words in f"{error.given} {error.rule}"
    key = words.partition("(")[2].rstrip(")")
    assert ("raise " in error.remedy or "set a " in error.remedy) == (key != "the model's positions") or (
        overlong == "truncate"
    ), error.remedy
    assert not [n for n in re.findall(r"(?:raise|set)[^,;]*? to ([\d,]+)", error.remedy) if int(n) > POSITIONS]
    if "positions" in words:
        assert "max_length" not in error.remedy


def test_rows_that_are_left_out_name_the_limit(model: str, write: Write) -> None:
    rows = [{"question": "2+2?", "answer": "4"}] * 99 + [{"question": "why? " * 60, "answer": "so"}]
    context = StageContext.of(stage_recipe("sft", {"model": model, "data": "x"}).recipe)
    [left_out] = context.reader.open(write(*rows)).preparation.whole().left_out
    assert left_out.rule == f"a row has at most {POSITIONS} tokens (the model's positions)"
    assert left_out.remedy == "shorten the row"
