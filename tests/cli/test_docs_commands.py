"""Every command in README, docs and recipes can be typed: its options exist, and its settings are accepted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from burnish.cli.main import app
from burnish.recipe.read import read_recipe, stage_recipe
from burnish.stages.registry import BUILTIN
from burnish.verbs.audit import read_audit
from burnish.verbs.evaluate import EvalSettings, read_settings
from burnish.verbs.evaluate_rewards import RewardEvalSettings
from burnish.verbs.generate import GenerateSettings

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/*.md", "docs/methods/*.md", "recipes/*.yaml")
LEFT_OUT = ("docs/devlog.md", "docs/benchmarks.md")
"""Pages with commands of earlier versions."""
WORD = r"(?:[^\s#]\S*)"


def commands() -> Iterator[tuple[str, str]]:
    """(page, command without ``burnish``): lines that begin with it, with the lines that they continue on."""
    for page in (path for pattern in PAGES for path in sorted(ROOT.glob(pattern))):
        name = str(page.relative_to(ROOT))
        if name in LEFT_OUT:
            continue
        text = re.sub(r" *\\\n *", " ", page.read_text(encoding="utf-8"))
        # A command that is answered with "burnish: …" shows a mistake.
        for line in re.findall(r"^(?:# *)?(?:\$ )?burnish ([a-z].*)$(?!\nburnish: )", text, re.MULTILINE):
            yield name, re.split(r"\s{3,}|\s#\s", line)[0]  # a remark stands behind wide spaces


COMMANDS = [entry for entry in commands() if re.fullmatch(rf"[a-z]+(?: {WORD})+", entry[1].replace("'", ""))]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line[:60]}" for page, line in COMMANDS])
def test_a_command_is_accepted(page: str, line: str) -> None:
    """Placeholders (…) stand for further words."""
    words = shlex.split(line.replace("[key=value …]", "").removesuffix(" …"))
    words = ["x" if word == "…" else word for word in words]
    command, name = typer.main.get_command(app), ""
    while words and words[0] in getattr(command, "commands", {}):
        name = words.pop(0)
        command = command.commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, words).params
    settings = [word for word in given.get("settings") or [] if "=" in word]
    if name in BUILTIN:
        data = (given["data"] or ["rows"])[0]
        extra = {"eval_data": "rows"} if given.get("eval_data") else {}
        stage_recipe(name, {"model": "m", "data": data, **extra}, settings)
    elif name == "run" and (ROOT / str(given["recipe"])).exists():
        read_recipe(ROOT / str(given["recipe"]), settings)
    elif name == "audit":
        read_audit({"path": "rows"}, settings)
    elif name == "generate":
        read_settings(GenerateSettings, {"data": "rows"}, settings)
    elif name == "eval":
        kind = RewardEvalSettings if any(word.startswith("verifier=") for word in settings) else EvalSettings
        read_settings(kind, {"data": "rows"}, settings)
