"""What a recipe says of updates: defaults that depend on the optimiser, and options that it does not have."""

from __future__ import annotations

import pytest

from burnish.builtin.tiny import make_model
from burnish.errors import RecipeError
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.policy import Model
from burnish.optim.settings import KINDS, OPTIONS
from burnish.recipe.read import stage_recipe
from burnish.recipe.recipe import Recipe
from burnish.stages.updating import learning_rate, learning_rate_factors, optimizer_of

VALUES = {"betas": "[0.8, 0.9]", "eps": "1e-6", "momentum": "0.8", "nesterov": "true", "beta2_decay": "-0.7"}


def read(*overrides: str) -> Recipe:
    return stage_recipe("sft", {"model": "m", "data": "d"}, overrides).recipe


def rate(*overrides: str) -> float:
    recipe = read(*overrides)
    return learning_rate(recipe, recipe.stages[0].settings)


def test_rates_follow_the_optimiser_and_the_adapter():
    assert rate() == 2e-5
    assert rate("adapter.kind=lora") == 2e-4
    assert rate("optimizer=lion") == pytest.approx(4e-6)
    assert rate("optimizer=adafactor") == pytest.approx(1e-3)
    assert rate("optimizer=sgd", "learning_rate=0.1") == 0.1
    with pytest.raises(RecipeError, match="sgd has no default learning rate"):
        read("optimizer=sgd")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_taken_or_refused(name, option):
    given = (f"optimizer={name}", "learning_rate=0.1", f"optimizer.{option}={VALUES[option]}")
    if option in KINDS[name].options:
        assert dict(read(*given).stages[0].settings.optimizer)[option] is not None
    else:
        with pytest.raises(RecipeError, match=f"optimizer.{option} has no effect with optimizer.kind: {name}"):
            read(*given)


def test_what_is_given_reaches_the_optimiser():
    recipe = read(
        "optimizer=muon",
        "optimizer.momentum=0.8",
        "optimizer.nesterov=false",
        "optimizer.betas=[0.8, 0.9]",
        "optimizer.eps=1e-6",
        "optimizer.weight_decay=0.1",
    )
    policy = Model(make_model(0, hidden_size=32, layers=1), None)
    muon, adamw = optimizer_of(recipe, recipe.stages[0].settings, policy).libraries
    assert (muon.defaults["momentum"], muon.defaults["nesterov"]) == (0.8, False)
    assert (adamw.defaults["betas"], adamw.defaults["eps"]) == ((0.8, 0.9), 1e-6)
    assert muon.param_groups[0]["weight_decay"] == 0.1


def test_exclusions_from_weight_decay():
    recipe = read("optimizer.weight_decay=0.1", "optimizer.no_weight_decay=[embed, q_proj]")
    policy = Model(make_model(0, hidden_size=32, layers=1), None)
    decaying, staying = optimizer_of(recipe, recipe.stages[0].settings, policy).libraries[0].param_groups
    assert (decaying["weight_decay"], staying["weight_decay"]) == (0.1, 0.0)
    excluded = {id(p) for n, p in policy.trained_parameters() if p.ndim < 2 or "embed" in n or "q_proj" in n}
    assert {id(p) for p in staying["params"]} == excluded


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_layer_decay_and_patterns_reach_every_parameter(adapter):
    model = make_model(0, hidden_size=32, layers=2)
    policy = Model(add_adapter(model, AdapterSettings(rank=2)) if adapter else model, None)
    recipe = read("optimizer.layerwise_lr_decay=0.5", "optimizer.lr_multipliers={q_proj: 10.0}")
    factors = learning_rate_factors(recipe, recipe.stages[0].settings, policy)
    assert set(factors) == {name for name, _ in policy.trained_parameters()}
    for name, factor in factors.items():
        expected = 0.25 if "layers.0" in name else 0.5 if "layers.1" in name else 0.125 if "embed" in name else 1
        assert factor == expected * (10 if "q_proj" in name else 1), name
    groups = optimizer_of(recipe, recipe.stages[0].settings, policy).libraries[0].param_groups
    assert {group["factor"] for group in groups} == set(factors.values())


def test_schedule_free_brings_its_own_schedule():
    free = read("optimizer=schedule_free").stages[0].settings
    assert free.schedule_of(100).factor(99) == 1
    assert read().stages[0].settings.schedule_kind == "cosine"
    for override in ("schedule=cosine", "optimizer.ema_decay=0.9", "optimizer.stochastic_rounding=true"):
        with pytest.raises(RecipeError, match="schedule_free"):
            read("optimizer=schedule_free", override)


def test_options_of_schedules_reach_them():
    schedule = (
        read("schedule=polynomial", "schedule.power=3.0", "schedule.min_lr_ratio=0.1", "schedule.warmup_ratio=0")
        .stages[0]
        .sft.schedule_of(10)
    )
    assert schedule.factor(5) == pytest.approx(0.1 + 0.9 * 0.5**3)
    schedule = (
        read("schedule=cosine_restarts", "schedule.cycles=5", "schedule.warmup_ratio=0")
        .stages[0]
        .settings.schedule_of(10)
    )
    assert [schedule.factor(step) for step in range(4)] == pytest.approx([1, 0.5, 1, 0.5])


def test_stochastic_rounding_needs_narrow_weights():
    recipe = read("optimizer.stochastic_rounding=true")
    policy = Model(make_model(0, hidden_size=32, layers=1), None)
    with pytest.raises(RecipeError, match="dtype: bfloat16"):
        optimizer_of(recipe, recipe.stages[0].settings, policy)
