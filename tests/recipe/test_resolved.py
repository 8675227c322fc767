"""The resolved recipe: values in force with their true origin, which mean the same when they are read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from burnish.config.text import parse_yaml
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.losses.reward.settings import OPTIONS as REWARD_LOSSES
from burnish.recipe.read import ResolvedRecipe, read_recipe, stage_recipe
from burnish.stages.rl.algorithms import ALGORITHMS
from burnish.train.schedule import SCHEDULE_OPTIONS

RL = {"data": "rows.jsonl", "reward": "number", "max_new_tokens": 32}


def recipe(method: str, **settings: Any) -> ResolvedRecipe:
    return stage_recipe(method, {"model": "some/model", "data": "rows.jsonl", **settings})


def text_of(found: ResolvedRecipe) -> str:
    [stage] = found.recipe.stages
    return found.text(
        {f"stages.0.{stage.method}.{key}": value for key, value in stage.settings.resolved_defaults.items()}
    )


def read_again(found: ResolvedRecipe, folder: Path) -> ResolvedRecipe:
    path = folder / "again.yaml"
    path.write_text(text_of(found))
    return read_recipe(path)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "kl in the reward": ("rl", {**RL, "kl_coef": 0.1, "policy_gradient.kl_in": "reward"}),
    "kl in the loss": ("rl", {**RL, "kl_coef": 0.1}),
    "an entropy target": ("rl", {**RL, "policy_gradient.entropy_target": 1.0}),
    "a correction": (
        "rl",
        {
            **RL,
            "policy_gradient.old_logprobs": "recomputed",
            "updates_per_batch": 2,
            "policy_gradient.importance_correction": "mis",
        },
    ),
    "another clip": ("rl", {**RL, "updates_per_batch": 2, "policy_gradient.clip_mode": "sapo"}),
    "two rewards": ("rl", {**RL, "reward": ["number", "format"], "algorithm": "gdpo"}),
    "online dpo": ("rl", {**RL, "algorithm": "online_dpo"}),
    "online ipo": ("rl", {**RL, "algorithm": "online_dpo", "preference": {"loss": "ipo"}}),
    "generations": ("sft", {"eval_data": "rows.jsonl", "evaluation.generations": 4}),
}
for name in ALGORITHMS:
    CASES[name] = ("rl", {**RL, "algorithm": name})
    CASES[f"{name}, two updates"] = ("rl", {**RL, "algorithm": name, "updates_per_batch": 2})
CASES |= {f"prefer {name}": ("prefer", {"loss": name}) for name in PREFERENCE_LOSSES}
SCORED = ("regression", "multi_label")
CASES |= {f"reward {name}": ("reward", {"loss": name}) for name in REWARD_LOSSES if name not in SCORED}
CASES |= {f"schedule {name}": ("sft", {"schedule": name}) for name in SCHEDULE_OPTIONS}
SMALL = ("adamw", "muon", "adafactor", "lion", "sgd")
CASES |= {f"optimizer {name}": ("sft", {"optimizer": name, "learning_rate": 1e-4}) for name in SMALL}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_again_means_the_same(tmp_path: Path, name: str) -> None:
    method, settings = CASES[name]
    first = recipe(method, **settings)
    again = read_again(first, tmp_path)
    [one], [other] = first.recipe.stages, again.recipe.stages
    for key in ("chosen", "rollouts", "recomputes", "resolved_options", "schedule_kind"):
        if key == "chosen" and not getattr(one.settings, "is_gradient", False):
            continue
        if hasattr(one.settings, key):
            assert getattr(one.settings, key) == getattr(other.settings, key), key
    assert text_of(again).count("null") == text_of(first).count("null")
    assert parse_yaml(text_of(again), "")["stages"] == parse_yaml(text_of(first), "")["stages"]


def lines(found: ResolvedRecipe) -> set[str]:
    return {line.strip() for line in text_of(found).splitlines()}


def test_what_the_algorithm_sets_is_written_with_its_name() -> None:
    found = lines(recipe("rl", **RL, algorithm="gspo", updates_per_batch=2))
    assert {
        "ratio_level: sequence  # algorithm: gspo",
        "clip_low: 0.0003  # algorithm: gspo",
        "loss_aggregation: sequence  # algorithm: gspo",
        "baseline: group  # algorithm: gspo",
        "old_logprobs: sampler  # default",
        "dynamic_sampling: true  # default",
        "algorithm: gspo  # command line",
    } <= found


def test_what_has_no_effect_stays_null() -> None:
    """With one update the ratio is exactly 1: no clip is in force."""
    found = lines(recipe("rl", **RL))
    assert {"clip_low: null  # default", "ratio_level: null  # default", "baseline: group  # algorithm: grpo"} <= found


def test_what_a_loss_sets_is_written_with_its_name() -> None:
    found = lines(recipe("prefer", loss="simpo", **{"loss_options.margin": 0.5}))
    assert {"beta: 2.0  # loss: simpo", "margin: 0.5  # command line", "reference: none  # default"} <= found
    assert not [line for line in found if "derived" in line]


def test_a_group_that_follows_as_a_whole() -> None:
    found = lines(recipe("rl", **RL, algorithm="online_dpo"))
    assert {"loss: dpo  # default", "beta: 0.1  # default", "pairs: null  # default"} <= found
