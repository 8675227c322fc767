"""Names of stages whose models other stages use: `start_from`, and models called stage:NAME."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.errors import RecipeError
from burnish.recipe.chain import chain, starting_stage
from burnish.recipe.read import mapped_recipe, stage_recipe
from burnish.recipe.recipe import Recipe

DATA = {"data": "builtin:chat"}
PAIRS = {"data": "builtin:preferences"}


def rl(model: str = "stage:reward", **settings: object) -> dict[str, Any]:
    return {"rl": {**DATA, "reward": {"name": "reward_model", "model": model}, **settings}}


def recipe(*stages: dict[str, Any]) -> Recipe:
    return mapped_recipe({"model": "builtin:tiny", "stages": list(stages)}).recipe


SFT, REWARD = {"sft": DATA}, {"reward": PAIRS}


def start(name: str) -> dict[str, str]:
    return {**DATA, "start_from": name}


def test_a_stage_starts_from_the_one_before_it_or_the_one_that_it_names() -> None:
    stages = recipe(SFT, REWARD, rl(start_from="sft"), SFT, {"sft": start("sft")}).named_stages
    assert list(stages) == ["sft", "reward", "rl", "sft-2", "sft-3"]
    assert [starting_stage(stages, name) for name in stages] == [None, "sft", "sft", "rl", "sft"]
    assert chain(stages, "sft-2") == ["sft", "rl", "sft-2"]
    assert chain(stages, "sft-3") == ["sft", "sft-3"]


def test_a_reward_stage_may_continue_a_reward_stage() -> None:
    stages = recipe(SFT, REWARD, REWARD, rl("stage:reward-2", start_from="sft")).named_stages
    assert chain(stages, "reward-2") == ["sft", "reward", "reward-2"]


STEPS = {"reward": {**PAIRS, "loss": "step_cross_entropy"}}
MISTAKES = {
    "unknown": ([SFT, {"sft": start("sf")}], ["start_from: sf of the stage sft-2", "did you mean sft?"]),
    "nothing like it": ([SFT, {"sft": start("dpo-3")}], ["the recipe has the stages sft, sft-2", "model: sft"]),
    "itself": ([SFT, {"sft": start("sft-2")}], ["the stage sft-2 has no model when sft-2 begins"]),
    "later": ([SFT, {"sft": start("sft-3")}, SFT], ["the stage sft-3 has no model when sft-2 begins"]),
    "of the first": ([{"sft": start("sft-2")}, SFT], ["has no model when sft begins", "remove start_from"]),
    "of the only": ([{"sft": start("sft")}], ["this recipe has one stage", "remove start_from"]),
    "rl from a reward model": ([SFT, REWARD, rl()], ["starts from the model of the stage reward", "start_from: sft"]),
    "named reward model": (
        [SFT, REWARD, {"sft": start("reward")}],
        ["a reward model of whole responses", "generates no responses", "start_from: sft"],
    ),
    "no language model": ([REWARD, SFT], ["in a recipe of its own, or as the last stage"]),
    "model of no stage": ([SFT, rl("stage:rewards")], ["reward reward_model: model: stage:rewards of the stage rl"]),
    "model of a later stage": ([rl("stage:sft"), SFT], ["the stage sft has no model when rl begins", "runs/NAME"]),
    "language model as a reward model": (
        [SFT, rl("stage:sft")],
        ["which trains a language model", "is a reward model of whole responses", "runs/NAME"],
    ),
    "reward model as a reference": (
        [SFT, REWARD, {"prefer": {**PAIRS, "start_from": "sft", "reference_model": "stage:reward"}}],
        ["reference_model is a language model", "name stage:sft"],
    ),
    "reward model of steps": (
        [SFT, REWARD, STEPS, rl("stage:reward-2", start_from="sft")],
        ["which trains a reward model of steps", "name stage:reward"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_stage_that_has_no_such_model_is_refused(name: str) -> None:
    stages, words = MISTAKES[name]
    with pytest.raises(RecipeError) as caught:
        recipe(*stages)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_recipe_of_one_stage_has_no_models_of_stages() -> None:
    settings = {"model": "builtin:tiny", **rl()["rl"]}
    with pytest.raises(RecipeError) as caught:
        stage_recipe("rl", settings)
    assert caught.value.given == "reward reward_model: model: stage:reward"
    assert "this recipe has one stage" in caught.value.rule
    assert "runs/NAME" in caught.value.remedy
