"""Roles of the built-in stages, and the models that are loaded for roles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.errors import ModelError, RecipeError
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.stages.kind import kind_of
from burnish.stages.models import device_of, load_models
from burnish.stages.registry import BUILTIN
from burnish.stages.role import CRITIC as CRITIC_ROLE
from burnish.stages.role import POLICY, REFERENCE, TEACHER, Role
from tests.stages.small import SETTINGS, context_of, recipe_of, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


COPY = Role(REFERENCE, trained=False, is_copy=True)
OTHER = Role(TEACHER, trained=False, model="other", has_own_tokens=True)
ROLES: Mapping[str, tuple[str, dict[str, Any], tuple[Role, ...]]] = {
    "sft": ("sft", {}, (Role(POLICY),)),
    "dpo": ("prefer", {}, (Role(POLICY),)),  # its reference is precomputed before the first step
    "dpo online": ("prefer", {"reference": "online"}, (Role(POLICY), COPY)),
    "dpo with a moving reference": ("prefer", {"reference_sync_steps": 2}, (Role(POLICY), COPY)),
    "dpo with another model": (
        "prefer",
        {"reference_model": "other"},
        (Role(POLICY), Role(REFERENCE, trained=False, model="other")),
    ),
    "simpo": ("prefer", {"loss": "simpo"}, (Role(POLICY),)),
    "kto": ("prefer", {"loss": "kto"}, (Role(POLICY), COPY)),  # mismatched pairs differ from step to step
    "pairs": ("reward", {"seed": 3}, (Role(POLICY, value_head=ValueHeadConfig(seed=3)),)),
    "scores": (
        "reward",
        {"loss": "regression", "scores": ["a", "b"]},
        (Role(POLICY, value_head=ValueHeadConfig(outputs=2, names=("a", "b"))),),
    ),
    "steps": (
        "reward",
        {"loss": "step_cross_entropy"},
        (Role(POLICY, value_head=ValueHeadConfig(judged="step", problem="multi_label_classification")),),
    ),
    "grpo": ("rl", {}, (Role(POLICY),)),
    "grpo at a temperature": ("rl", {"sampling": {"temperature": 0.7}}, (Role(POLICY, temperature=0.7),)),
    "grpo near a reference": ("rl", {"kl_coef": 0.1}, (Role(POLICY), COPY)),
    "online dpo": ("rl", {"algorithm": "online_dpo"}, (Role(POLICY), COPY)),
    "ppo": ("ppo", {}, (Role(POLICY), COPY, Role(CRITIC_ROLE, is_critic=True))),
    "ppo without a reference": ("ppo", {"kl_coef": 0}, (Role(POLICY), Role(CRITIC_ROLE, is_critic=True))),
    "ppo with lora": (
        "ppo",
        {"adapter": {"kind": "lora", "rank": 2}},
        (Role(POLICY), COPY, Role(CRITIC_ROLE, is_critic=True, shares_base=True)),
    ),
    "ppo with another critic": (
        "ppo",
        {"critic": {"model": "other"}, "adapter": {"kind": "lora", "rank": 2}},
        (Role(POLICY), COPY, Role(CRITIC_ROLE, model="other", is_critic=True)),
    ),
    "distill": ("distill", {"teacher": "other"}, (Role(POLICY), OTHER)),
    "distill at a temperature": (
        "distill",
        {"teacher": "other", "temperature": 2.0},
        (Role(POLICY, temperature=2.0), OTHER),
    ),
    "distill in turns": ("distill", {"teacher": {"model": "other", "placement": "in_turns"}}, (Role(POLICY),)),
    "distill of oneself": (
        "distill",
        {"teacher": {"model": "student", "ema_decay": 0.9, "context": "Be brief."}},
        (Role(POLICY),),
    ),
    "distill of two": (
        "distill",
        {"teacher": [{"model": "other", "where": {"source": "math"}}, {"model": "foreign"}]},
        (Role(POLICY), OTHER, Role("teacher-2", trained=False, model="foreign", has_own_tokens=True)),
    ),
    "distill from tables": (
        "distill",
        {"teacher": {"tables": "tables"}, "response_source": "data"},
        (Role(POLICY),),
    ),
    "online simpo": ("rl", {"algorithm": "online_dpo", "preference": {"loss": "simpo"}}, (Role(POLICY),)),
}


@pytest.mark.parametrize("name", ROLES)
def test_roles_follow_from_settings(world: Path, name: str) -> None:
    """A reference is there only where it is needed: as a copy of the policy, or another model."""
    method, changed, roles = ROLES[name]
    recipe = recipe_of(world, method, **changed)
    assert kind_of(recipe.stages[0]).roles(recipe, recipe.stages[0].settings) == roles


def test_every_built_in_stage_is_in_these_tests() -> None:
    assert set(BUILTIN) == set(SETTINGS) == {method for method, _, _ in ROLES.values()}


def test_a_copy_is_not_loaded_and_temperatures_are_those_of_roles(world: Path) -> None:
    models = load_models(context_of(world, "sft"), (Role(POLICY, temperature=0.7), COPY))
    assert set(models) == {POLICY}
    assert models[POLICY].temperature == 0.7


def weights(model: Model) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_another_model_is_loaded_frozen(world: Path) -> None:
    reference = Role(REFERENCE, trained=False, model=str(world / "other"), temperature=0.5)
    models = load_models(context_of(world, "sft"), (Role(POLICY), reference))
    assert all(parameter.requires_grad for parameter in models[POLICY].model.parameters())
    assert not any(parameter.requires_grad for parameter in models[REFERENCE].model.parameters())
    assert list(models[REFERENCE].trained_parameters()) == []
    assert models[REFERENCE].temperature == 0.5
    mine, theirs = weights(models[POLICY]), weights(models[REFERENCE])
    assert mine.keys() == theirs.keys()
    assert not all(mine[name].equal(theirs[name]) for name in mine)


def test_a_frozen_role_without_a_model_is_that_of_the_stage(world: Path) -> None:
    models = load_models(context_of(world, "sft"), (Role(POLICY), Role("teacher", trained=False)))
    mine, theirs = weights(models[POLICY]), weights(models["teacher"])
    assert all(mine[name].equal(theirs[name]) for name in mine)
    assert models["teacher"].model is not models[POLICY].model


def test_a_frozen_model_has_the_tokens_of_the_policy(world: Path) -> None:
    foreign = Role(REFERENCE, trained=False, model=str(world / "foreign"))
    with pytest.raises(ModelError, match="other tokens") as caught:
        load_models(context_of(world, "sft"), (Role(POLICY), foreign))
    assert "reference_model" in str(caught.value)


CRITIC = Role("critic", is_critic=True, shares_base=True)


def test_a_further_adapter_needs_one_of_the_policy(world: Path) -> None:
    with pytest.raises(RecipeError, match=r"adapter\.kind: full"):
        load_models(context_of(world, "sft"), (Role(POLICY), CRITIC))


def test_roles_that_share_a_base_have_one_and_train_each_its_own(world: Path) -> None:
    models = load_models(context_of(world, "sft", adapter={"kind": "lora", "rank": 2}), (Role(POLICY), CRITIC))
    assert models["critic"].model is models[POLICY].model
    own = [{name for name, _ in models[role].trained_parameters()} for role in (POLICY, "critic")]
    assert own[0]
    assert own[1] > {"critic_head.weight"}
    assert own[0].isdisjoint(own[1])


def test_heads_of_values(world: Path) -> None:
    """In place of the output head of a reward model, beside that of a critic."""
    context = context_of(world, "sft", add_tokens=["<|pad|>"])
    models = load_models(context, (Role(POLICY, value_head=ValueHeadConfig()), Role("critic", is_critic=True)))
    assert models[POLICY].is_reward_model
    assert not models["critic"].is_reward_model
    assert "critic_head.weight" in dict(models["critic"].trained_parameters())
    assert models["critic"].value_head.weight.shape == (1, 32)
    assert not models["critic"].value_head.weight.any(), "a critic predicts 0 at first"


def test_a_device_that_is_not_there_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(recipe_of(world, "sft")) == device_of(recipe_of(world, "sft", device="cpu")) == torch.device("cpu")
    with pytest.raises(RecipeError, match="device: cuda"):
        load_models(context_of(world, "sft", device="cuda"), (Role(POLICY),))
