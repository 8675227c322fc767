"""docs/troubleshooting.md quotes messages, alerts, keys and exit statuses that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from burnish.config.settings import keys
from burnish.recipe.recipe import NOT_IDENTITY, recipe_of
from burnish.stages.registry import BUILTIN
from burnish.watch.alerts import rl_rules, training_rules

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ALERTS = {rule.name for rule in (*training_rules(), *rl_rules())}


@cache
def texts() -> tuple[str, ...]:
    """All strings of the package; a value in an f-string is …."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "burnish").rglob("*.py"))
    return tuple(text for tree in trees for node in ast.walk(tree) if (text := _text(node)))


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str()):
            return node.value
        case ast.Constant(value=bytes()):
            return node.value.decode("utf-8", "replace")
        case ast.JoinedStr():
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def section(title: str, level: int = 3) -> str:
    """Text below a heading, up to the next one of its level or above."""
    [rest] = re.findall(
        rf"^{'#' * level} {re.escape(title)}\n(.*?)(?=^#{{1,{level}}} |\Z)", PAGE, re.DOTALL | re.MULTILINE
    )
    return rest


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


MESSAGES = [
    cell
    for title in ("Recipes and commands", "Data", "Models and templates", "Run folders", "During training")
    for cell in first_cells(section(title))
]


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_one_of_the_package(message: str) -> None:
    """Its parts between … stand in one string, in their order."""
    pattern = ".*".join(re.escape(part) for part in message.split("…"))
    assert any(re.search(pattern, text, re.DOTALL) for text in texts())


def test_all_alerts_are_explained_and_no_other() -> None:
    assert set(first_cells(section("Alerts"))) == ALERTS


def test_keys_that_may_change_are_those_of_the_code() -> None:
    """output is given by the folder."""
    listed = re.findall(
        r"`([a-z_.]+)`", section("Resuming is refused").partition("These keys may change:")[2].partition("\n\n")[0]
    )
    assert set(listed) >= NOT_IDENTITY - {"output"}


def test_dotted_keys_on_the_page_exist() -> None:
    ours = {key for entry in BUILTIN.values() for key in keys(entry.settings())} | set(keys(recipe_of(BUILTIN)))
    groups = {key.partition(".")[0] for key in ours if "." in key} - {"model", "data", "stages", "eval_data"}
    named = re.findall(rf"`((?:{'|'.join(groups)})\.[a-z_]+)", PAGE)
    assert named
    assert set(named) <= ours


def test_the_error_at_the_top_is_real(capsys: pytest.CaptureFixture[str]) -> None:
    from burnish.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["sft", "--model", "m", "--data", "d", "learning_rat=1"])
    [message] = re.findall(r"^```\n(burnish: unknown key.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert (ended.value.code, capsys.readouterr().err) == (2, message)


def test_exit_statuses_are_those_of_the_command() -> None:
    """0, 1, 2 and 130 are named by the command's module; 137 is the system's."""
    doc = ast.get_docstring(ast.parse((ROOT / "burnish" / "cli" / "main.py").read_text(encoding="utf-8"))) or ""
    statuses = set(re.findall(r"^\| (\d+) \|", section("Exit status", 2), re.MULTILINE))
    assert statuses - {"137"} == set(re.findall(r"\b(\d{1,3})\b", doc))
