"""Keys of other tools: each has an answer that names keys that exist, and docs/coming-from.md shows these answers."""

from __future__ import annotations

import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from burnish.cli.main import main
from burnish.data.formats.known import FORMATS
from burnish.data.records import Message, Ranked
from burnish.recipe.read import read_recipe
from burnish.settings.aliases import OTHER_TOOLS, RENAMED
from burnish.settings.other_keys import ADAPTER, DATA, MODEL, same, union
from burnish.settings.other_tools import TOOLS, Tool
from burnish.settings.other_training_keys import PREFERENCES, REINFORCEMENT, TRAINING
from scripts.coming_from import PAGE, answer, as_code, our_key, written

ALL = [(name, key) for name, tool in TOOLS.items() for key in tool.all_keys]
PARTS = (MODEL, ADAPTER, DATA, TRAINING, PREFERENCES, REINFORCEMENT)
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "key"), ALL, ids=[f"{name}-{key}" for name, key in ALL])
def test_every_key_of_a_tool_has_an_answer(name: str, key: str) -> None:
    assert answer(TOOLS[name], key)


@pytest.mark.parametrize(
    ("name", "least"), [("trl", 60), ("axolotl", 60), ("llama-factory", 60), ("unsloth", 30), ("ms-swift", 30)]
)
def test_the_tables_are_of_some_size(name: str, least: int) -> None:
    assert len(set(TOOLS[name].all_keys)) >= least


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_remarks_are_about_keys_of_the_tool_that_are_ours(tool: Tool) -> None:
    assert set(tool.remarks) <= set(tool.all_keys)
    assert all(our_key(key) or key in RENAMED for key in tool.remarks)


def test_a_key_has_one_answer() -> None:
    """The parts do not overlap with each other, nor with the rest of the table, nor with keys of earlier versions."""
    parts = union(*PARTS)
    assert sum(map(len, PARTS)) == len(parts)
    assert all(OTHER_TOOLS[key] == text for key, text in parts.items())
    assert not parts.keys() & RENAMED.keys()
    with pytest.raises(AssertionError, match="a has two answers"):
        union({"a": "1"}, {"a": "2"})


def test_keys_with_the_same_answer_stand_together() -> None:
    assert same(("x", "a b"), ("y", "c")) == {"a": "x", "b": "x", "c": "y"}


def test_configurations_of_trl_are_covered() -> None:
    """Nine in ten of the fields of TRL's own records have an answer, and nearly all keys of the table are fields."""
    trl = pytest.importorskip("trl")
    records = (
        trl.SFTConfig,
        trl.DPOConfig,
        trl.GRPOConfig,
        trl.RewardConfig,
        trl.ModelConfig,
        trl.KTOConfig,
        trl.RLOOConfig,
    )
    theirs = {entry.name for record in records for entry in fields(record)}
    unanswered = {key for key in theirs if not (our_key(key) or key in RENAMED or key in OTHER_TOOLS)}
    assert len(unanswered) <= 0.1 * len(theirs), sorted(unanswered)


def test_the_page_has_the_tables() -> None:
    assert written(TEXT) == TEXT, "run python -m scripts.coming_from"


def test_keys_are_shown_as_code_and_borders_are_escaped() -> None:
    assert as_code("data, or max_length: a|b and data") == "`data`, or `max_length`: a\\|b and data"
    assert as_code("not needed: `hf auth login`") == "not needed: `hf auth login`"


RECIPES = [block for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE) if "stages:" in block]


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_the_translated_recipes_are_valid(number: int, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPES[number], encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.yaml").recipe.stages


def test_there_is_a_recipe_for_each_tool() -> None:
    assert len(RECIPES) == len(TOOLS)


OTHERS = [
    block for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE) if "stages:" not in block
]


@pytest.mark.parametrize("number", range(len(OTHERS)))
def test_every_key_of_the_recipes_of_others_is_in_their_tables(number: int) -> None:
    theirs = {key for tool in TOOLS.values() for key in tool.all_keys}
    assert set(yaml.safe_load(OTHERS[number])) <= theirs


def test_the_error_in_the_page_is_the_one_that_comes(capsys: pytest.CaptureFixture[str]) -> None:
    [(command, message)] = re.findall(r"`burnish (sft [^`]+)` says:\n\n```\n(.*?)```", TEXT, re.DOTALL)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert (ended.value.code, capsys.readouterr().err) == (2, message)


def test_the_function_for_other_rows_makes_preferences(tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n(def convert.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (tmp_path / "swift.py").write_text(code, encoding="utf-8")
    convert = runpy.run_path(str(tmp_path / "swift.py"))["convert"]
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    ranked = FORMATS["preference"].convert(convert({"messages": turns, "rejected_response": "5"}))
    assert isinstance(ranked, Ranked)
    prompt, chosen, rejected = (
        Message("user", "2+2?", {}, False),
        Message("assistant", "4", {}, True),
        Message("assistant", "5", {}, True),
    )
    assert (ranked.prompt, ranked.responses) == ((prompt,), ((chosen,), (rejected,)))
