"""Other names of keys: what is suggested exists, old keys are refused with the new ones, levels are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from burnish.config.settings import keys
from burnish.errors import RecipeError
from burnish.recipe.read import read_recipe, stage_recipe
from burnish.recipe.recipe import recipe_of
from burnish.settings.aliases import OTHER_TOOLS, RENAMED
from burnish.stages.registry import BUILTIN

METHODS = {name: entry.settings() for name, entry in BUILTIN.items()}
Recipe = recipe_of(BUILTIN)
OF_STAGES = {key for method in METHODS.values() for key in keys(method)}
KEYS = OF_STAGES | {key for key in keys(Recipe) if not key.startswith("stages.")}
"""As a user writes them on the command line."""
NO_KEY = ("not available", "not needed", "always on", "a loss without")
"""Beginnings of remarks that name no key."""


def refused(method: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        stage_recipe(method, {"model": "m", "data": "d"}, overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", OTHER_TOOLS)
def test_another_tools_name_leads_to_a_key(name: str) -> None:
    """The target begins with a key, and whatever in it has a dot is one."""
    target = OTHER_TOOLS[name]
    if target.startswith(NO_KEY):
        return
    [first] = re.findall(r"^[\w.]+", target)
    dotted = re.findall(r"\b[a-z_]+(?:\.[a-z_]+)+\b", re.sub(r"\w+\.(py|jsonl)", "", target))
    assert {first, *dotted} <= KEYS


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_name_leads_to_a_key_and_is_none(name: str) -> None:
    """An old key may still be a key of another stage (beta), but never of one that has the new key."""
    target = RENAMED[name]
    assert target in KEYS
    methods = [method for method in METHODS.values() if target in {*keys(method), *keys(Recipe)}]
    assert not any(name in keys(method) for method in methods)


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_key_is_refused_with_the_new_one(name: str) -> None:
    target = RENAMED[name]
    method = next(method for method in METHODS if target in {*keys(METHODS[method]), *keys(Recipe)})
    assert f"did you mean {target}?" in refused(method, f"{name}=1")


@pytest.mark.parametrize("method", METHODS)
def test_no_suggestion_is_out_of_reach(method: str) -> None:
    """An old key of one method, written in another, is not answered with a key that the other does not have. (beta was
    renamed in rl, and is a key of prefer.)"""
    known = {*keys(METHODS[method]), *(key for key in keys(Recipe) if "*" not in key)}
    for name, target in ((name, target) for name, target in RENAMED.items() if name not in known):
        answer = refused(method, f"{name}=1")
        assert (f"did you mean {target}?" in answer) == (target in known), answer


@pytest.mark.parametrize(
    ("method", "override", "words"),
    [
        ("sft", "warmup_ratio=0.1", "did you mean schedule.warmup_ratio?"),
        ("sft", "max_grad_norm=1", "did you mean optimizer.max_grad_norm?"),
        ("sft", "rank=8", "did you mean adapter.rank?"),
        ("sft", "optimizer.learning_rate=1", "did you mean learning_rate, not optimizer.learning_rate?"),
        ("sft", "schedule.seed=1", "did you mean seed, not schedule.seed?"),
        ("sft", "warmup_ratios=0.1", "did you mean schedule.warmup_ratio?"),
        ("sft", "evaluation_generations=1", "did you mean evaluation.generations?"),
        ("sft", "optimizer.bets=[0.9, 0.99]", "did you mean optimizer.betas?"),
        ("sft", "optimizer.zzz=1", "choose from: beta2_decay, betas"),
        ("prefer", "margin=1", "did you mean loss_options.margin?"),
        ("prefer", "loss_options.beta=1", "did you mean beta, not loss_options.beta?"),
        ("prefer", "loss_options.likelihood=1", "did you mean loss_options.nll_coef?"),
        ("rl", "preference.likelihood=1", "did you mean preference.loss_options.nll_coef?"),
        ("rl", "keep_best=true", "did you mean checkpoints.keep_best?"),
    ],
)
def test_a_key_at_the_wrong_level_is_answered_with_its_place(method: str, override: str, words: str) -> None:
    assert words in refused(method, override)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("learning_rate: 1", "write it below a stage: `stages: [{sft: {learning_rate: …}}]`"),
        ("rank: 1", "did you mean adapter.rank?"),
        ("stages: [{sft: {data: a, seed: 1}}]", "did you mean seed, not stages.0.sft.seed?"),
        ("stages: [{sft: {data: a, clip: 1}}]", "did you mean optimizer.max_grad_norm?"),
        ("stages: [{sft: {data: [{path: a, formt: b}]}}]", "did you mean data.0.format?"),
    ],
)
def test_levels_in_a_file(tmp_path: Path, line: str, words: str) -> None:
    stages = "" if line.startswith("stages") else "stages: [{sft: {data: a}}]\n"
    (tmp_path / "r.yaml").write_text(f"model: m\n{stages}{line}\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "r.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("method", "override", "words"),
    [
        ("sft", "overlong=stop", "here it is error"),
        ("sft", "overlong=cut_turns", "here it is drop_turns"),
        ("prefer", "reference=computed", "here it is online"),
    ],
)
def test_old_values_are_refused_with_the_new_ones(method: str, override: str, words: str) -> None:
    assert words in refused(method, override)


@pytest.mark.parametrize(
    ("method", "override", "words"),
    [
        ("sft", "dtype=bf16", "here it is bfloat16"),
        ("sft", "dtype=fp16", "float16 is not trained"),
        ("sft", "adapter=dora", "here it is lora, with adapter.dora: true"),
        ("sft", "adapter.kind=none", "here it is full"),
        ("prefer", "loss=sigmoid", "here it is dpo"),
        ("rl", "algorithm=ppo", "here it is a stage of its own: ppo"),
    ],
)
def test_values_of_other_tools_are_answered(method: str, override: str, words: str) -> None:
    answer = refused(method, override)
    assert words in answer
    assert "here it is not" not in answer


@pytest.mark.parametrize(
    ("method", "override", "words"),
    [
        ("sft", "beta=0.1", "beta is a setting of a stage prefer"),
        ("sft", "reward=math", "reward is a setting of a stage rl"),
        ("rl", "batch_size=8", "here it is groups_per_step"),
        ("rl", "sequences_per_step=8", "did you mean groups_per_step?"),
        ("sft", "num_generations=8", "here it is responses_per_prompt, a setting of a stage rl"),
        ("rl", "evaluation.generations=8", "did you mean evaluation.prompts?"),
    ],
)
def test_a_key_of_another_stage_is_answered(method: str, override: str, words: str) -> None:
    assert words in refused(method, override)


@pytest.mark.parametrize("override", ["adapter=lora", "trackers=wandb", "optimizer=muon", "schedule=linear"])
def test_a_kind_alone_is_accepted(override: str) -> None:
    """`trackers=wandb` is a list of one."""
    stage_recipe("sft", {"model": "m", "data": "d"}, [override])


@pytest.mark.parametrize("override", ["qqqqqqqq=1", "sxd=1", "zeal=1"])
def test_no_guess_is_far_away(override: str) -> None:
    assert "did you mean" not in refused("sft", override)


def test_all_unknown_keys_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("base_model: m\nnum_epochs: 2\nstages: [{sft: {data: a, lora_r: 8, lr: 1.0}}]\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "r.yaml")
    text = str(caught.value)
    assert "correct 4 keys" in text
    assert all(words in text for words in ("here it is model", "here it is epochs", "adapter.rank", "learning_rate"))
    told = refused("sft", "lr=1", "lora_r=8", "epochs=2")
    assert "unknown keys lr, lora_r" in told
    assert told.count("here it is") == 2
