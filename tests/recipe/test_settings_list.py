"""The list of settings: complete, with types, defaults and help from the declarations."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from burnish.config.settings import keys
from burnish.recipe.read import stage_recipe
from burnish.recipe.settings_list import recipe_settings, stage_settings, usual_settings
from burnish.stages.registry import BUILTIN
from scripts import settings_page

ENTRIES = {name: stage_settings(entry) for name, entry in BUILTIN.items()}


@pytest.mark.parametrize("name", BUILTIN)
def test_every_setting_is_listed_with_help(name):
    listed = [entry.key for entry in ENTRIES[name]]
    assert listed == [key for key in keys(BUILTIN[name].settings()) if not key.endswith("*")]
    assert all(entry.help and entry.kind for entry in ENTRIES[name])


@pytest.mark.parametrize("name", BUILTIN)
def test_a_stage_has_fifteen_usual_settings(name):
    """Each has a summary that fits beside key and default."""
    entries = usual_settings(BUILTIN[name])
    assert len(entries) == 15
    assert all(entry.summary and "null" not in entry.summary for entry in entries)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_written_default_is_the_default(name):
    """Giving the listed default gives the same recipe as leaving it out."""
    required = {"rl": {"reward": "number"}, "ppo": {"reward": "number"}, "distill": {"teacher": "t"}}
    needed = {"model": "m", "data": "d", **required.get(name, {})}
    plain = stage_recipe(name, needed).recipe
    for entry in ENTRIES[name]:
        simple = entry.kind in ("integer", "number", "text", "true or false") and "*" not in entry.key
        top = "." not in entry.key
        if simple and top and entry.default and yaml.safe_load(entry.default) is not None and entry.key != "data":
            value = yaml.safe_load(entry.default)
            if getattr(plain.stages[0].settings, entry.key) is not None:
                assert stage_recipe(name, {**needed, entry.key: value}).recipe == plain, entry


@pytest.mark.parametrize(
    ("name", "key", "kind", "default", "summary"),
    [
        ("sft", "sequences_per_step", "integer", "32", "Rows per optimizer step"),
        ("sft", "schedule.warmup_ratio", "number", "0.03", "Share of the steps with linear warmup"),
        ("sft", "epochs", "number", "1", "Number of passes over the usable rows"),
        ("sft", "optimizer", "group", "", "The optimizer: its kind, or a mapping with its options"),
        ("prefer", "loss", "text or mapping", "dpo", "Loss: a name, a weighted sum, or your own file.py:name"),
        ("rl", "stop_on_alerts", "list of ", "[]", "Alerts that end the stage"),
    ],
)
def test_entries_by_hand(name, key, kind, default, summary):
    [entry] = [entry for entry in ENTRIES[name] if entry.key == key]
    assert entry.kind.startswith(kind)
    assert (entry.default, entry.summary) == (default, summary)


def test_what_is_required_has_no_default():
    required = [
        entry.key for entry in ENTRIES["rl"] if not entry.default and not entry.is_group and "*" not in entry.key
    ]
    assert {"data", "reward"} <= set(required)
    assert "model" in {entry.key for entry in recipe_settings()}


def test_the_page_is_that_of_the_settings():
    """`python scripts/settings_page.py` writes it."""
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page()
    assert Path(settings_page.PAGE).name == "settings.md"
