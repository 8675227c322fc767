"""docs/rewards.md names every reward, its settings, every failure and every instruction; its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from burnish.config.settings import keys
from burnish.rewards.instructions.check import KINDS
from burnish.rewards.registry import BUILTIN
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import FailureKind

PAGE = Path(__file__).parents[2] / "docs" / "rewards.md"


@pytest.mark.parametrize("name", BUILTIN)
def test_every_reward_is_listed_with_its_settings(name: str) -> None:
    [line] = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    settings = {key for key in keys(BUILTIN[name]) if "." not in key} - set(keys(Reward))
    assert settings <= set(re.findall(r"`(\w+)`", line.rpartition(" | ")[2] + line.rpartition(" | ")[0]))


def test_what_every_reward_takes_is_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(Reward.model_fields) <= set(listed)
    assert {str(kind) for kind in FailureKind} <= set(listed)


def test_every_instruction_is_listed() -> None:
    listed = set(re.findall(r"`([a-z_]+:[a-z_]+)`", PAGE.read_text(encoding="utf-8")))
    assert listed == set(KINDS)


def test_its_example_runs() -> None:
    _, _, code = PAGE.read_text(encoding="utf-8").partition("```python\n")
    names: dict[str, object] = {}
    exec(code.partition("```")[0], names)
    assert getattr(names["verdict"], "reward", None) == 1.2
