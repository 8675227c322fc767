"""Reading a recipe costs no library that takes seconds to import, whether it is right or wrong.

Each in a process of its own, by what it has imported in the end. The import contracts of pyproject.toml say the same of
the text of the modules; packages' `__init__` files, which they do not follow, are seen here.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "datasets", "safetensors", "numpy", "pyarrow")
SETTINGS = [
    "burnish.recipe",
    "burnish.recipe.json_schema",
    "burnish.stages.prefer.settings",
    "burnish.stages.reward.settings",
    "burnish.stages.rl.settings",
    "burnish.stages.rl.algorithm_settings",
    "burnish.stages.rl.policy_gradient",
    "burnish.stages.sft.settings",
]
STAGES = {
    "sft": ["loss=cross_entropy", "add_tokens=template", "chat_template=chatml", "dry_run=true"],
    "prefer": ["loss={dpo: 1, sft: 0.1}", "beta=0.2", "filters.empty=error"],
    "reward": ["loss=bradley_terry", "loss_options.margin=0.5"],
    "rl": ["reward=math", "algorithm=gspo", "updates_per_batch=2", "kl_coef=0.1", "replay.groups=64"],
}
"""A recipe of each stage, with what is checked by a table of losses, rewards, algorithms or templates."""
READ = """
from burnish.recipe import stage_recipe
stage_recipe({method!r}, {{"model": "some/model", "data": "rows.jsonl"}}, {given!r}).text({{}})
"""
TYPED = """
from burnish.cli.main import main
try:
    main({typed!r})
except SystemExit as ending:
    assert ending.code == 2, "a user's mistake"
"""


def imported(program: str) -> tuple[list[str], str]:
    """Which of the heavy packages a program has imported in the end, and what it said to the user."""
    told = f"{program}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize("module", SETTINGS)
def test_settings_import_nothing_heavy(module):
    assert imported(f"import {module}") == ([], "")


@pytest.mark.parametrize("method", STAGES)
def test_a_recipe_is_read_without_heavy_packages(method):
    given = ["adapter.kind=lora", "optimizer=muon", "trackers=[tensorboard]", *STAGES[method]]
    assert imported(READ.format(method=method, given=given)) == ([], "")


REFUSED = {
    "a mistyped key": ("learning_rat=1", "unknown key learning_rat"),
    "a wrong type": ("learning_rate=fast", "learning_rate"),
    "an impossible combination": ("optimizer.ema_decay=0.9 optimizer=schedule_free", "leave optimizer.ema_decay out"),
    "a loss that does not exist": ("loss=cross_entrpy", "write cross_entropy"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_refusal_costs_no_heavy_package(mistake):
    given, words = REFUSED[mistake]
    heavy, told = imported(TYPED.format(typed=["sft", "--model", "some/model", "--data", "x.jsonl", *given.split()]))
    assert heavy == []
    assert words in told


def test_a_refused_file_costs_no_heavy_package(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: some/model\nstages:\n  - rl: {data: x.jsonl, reward: math, responses_per_prompt: 1}\n")
    heavy, told = imported(TYPED.format(typed=["run", str(path)]))
    assert heavy == []
    assert "responses_per_prompt: 1 has nothing to be compared with" in told
