"""The invariance law: the same groups give the same gradient, whatever the split, packing, sharing or recomputation.

On float64 gradients, before the optimiser, every variant against every other.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack, pack_singly
from burnish.train.step import Trainer, measure
from burnish.types import Group, Microbatch
from tests.conftest import make_groups
from tests.preferences import compared
from tests.suites.loss_cases import CASES

LOSSES = {
    "plain": CrossEntropy(),
    "smoothed": CrossEntropy(label_smoothing=0.2),
    "z-loss": CrossEntropy(label_smoothing=0.1, z_loss=0.3),
}
SHAPES = [(9, [5]), (4, [7, 3]), (11, [2, 6, 1, 4, 3, 3, 8, 2]), (2, [6])]
PACKINGS = ("one by one", "packed", "split prompts", "accumulated", "unshared")


def microbatches(groups: list[Group], packing: str) -> list[Microbatch]:
    """The step's groups as microbatches, in one of the ways that must not matter."""
    if packing == "one by one":
        return pack_singly(groups)
    if packing == "packed":
        return pack(groups, 10**6)
    if packing == "split prompts":
        return pack(groups, 21)
    if packing == "accumulated":
        return [microbatch for index, group in enumerate(groups) for microbatch in pack([group], 10**6, start=index)]
    return pack(groups, 50, share=False)


def gradient(
    policy: Model, groups: list[Group], packing: str, loss: Loss
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Gradients of all trained parameters, and what is reported, of one step."""
    policy.model.zero_grad()
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    trained = [group for group in groups if not group.scored_only]
    loss = measure(policy, loss, (group for group in groups if group.scored_only), budget=30)
    sums = trainer.accumulate(microbatches(trained, packing), loss, count_denominators(groups))
    figures = {name: float(value) for name, value in sums.items()}
    return {name: p.grad.clone() for name, p in policy.trained_parameters()}, figures


def make_policy(float64_model, family: str, adapter: bool) -> Model:
    model = float64_model(family)
    install(model)
    if adapter:
        model = add_adapter(model, AdapterSettings(rank=3)).double()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at the start, which would hide the gradient of A
                parameter.data.normal_(0, 0.2)
    return Model(model.train(), tokenizer=None, chunk_bytes=4096)


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], label: object) -> None:
    for name, value in first.items():
        scale = float(value.abs().max()) or 1.0
        error = float((second[name] - value).abs().max()) / scale
        assert error < 1e-11, (label, name, error)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["llama-tied", "qwen3-windowed"])
def test_every_pair_of_packings_with_and_without_checkpointing(float64_model, family, adapter, loss):
    policy = make_policy(float64_model, family, adapter)
    groups = make_groups(SHAPES, holes=True)
    results = {}
    for checkpointing in (False, True):
        if checkpointing:
            policy.causal_lm.activation_checkpointing_enable({"use_reentrant": False})
        for packing in PACKINGS:
            results[packing, checkpointing] = gradient(policy, groups, packing, LOSSES[loss])
    assert len(results) == 2 * len(PACKINGS)
    for first, second in combinations(results, 2):
        assert_same(results[first][0], results[second][0], (first, second))
        assert results[first][1] == pytest.approx(results[second][1], rel=1e-12)


@pytest.mark.parametrize("responses", [1, 2, 8])
def test_any_number_of_responses_shares_exactly(float64_model, responses):
    policy = make_policy(float64_model, "llama", adapter=False)
    groups = make_groups([(13, [4] * responses), (3, [2] * responses)])
    shared, _ = gradient(policy, groups, "packed", LOSSES["plain"])
    single, _ = gradient(policy, groups, "one by one", LOSSES["plain"])
    assert_same(shared, single, responses)


def test_trained_prompt_tokens_count_with_their_multiplicity(float64_model):
    """Prompt tokens with weight n in a group of n equal prompt tokens with weight 1 in n groups of one."""
    policy = make_policy(float64_model, "llama", adapter=False)
    [group] = make_groups([(9, [5, 3, 2])])
    weights = torch.tensor([0.0, 1, 0, 1, 1, 0, 1, 0, 1])
    shared = replace(group, prompt_weights=3 * weights)
    singles = [replace(part, prompt_weights=weights) for part in group.expanded()]
    for name in ("packed", "split prompts"):
        assert_same(
            gradient(policy, [shared], name, LOSSES["plain"])[0],
            gradient(policy, singles, "packed", LOSSES["plain"])[0],
            name,
        )


def test_an_empty_denominator_gives_zero(float64_model):
    """A step in which every weight is 0 changes nothing and is not a division by zero."""
    policy = make_policy(float64_model, "llama", adapter=False)
    groups = [
        replace(group, responses=tuple(replace(r, weights=torch.zeros(len(r.tokens))) for r in group.responses))
        for group in make_groups(SHAPES)
    ]
    gradients, figures = gradient(policy, groups, "packed", LOSSES["plain"])
    assert figures["loss"] == 0
    assert all(float(value.abs().max()) == 0 for value in gradients.values())


@pytest.mark.parametrize("name", ["dpo", "aot", "kto", "plackett_luce"])
def test_preference_losses_under_every_packing(float64_model, name):
    """One that contrasts pairs, one of the whole step, one with measured pairs, one of rankings. The suite of losses
    has all others, whole and cut."""
    policy, case = make_policy(float64_model, "qwen3-windowed", adapter=False), CASES[name]
    results = {way: gradient(policy, case.step(0), way, case.make()) for way in PACKINGS}
    for first, second in combinations(results, 2):
        assert_same(results[first][0], results[second][0], (first, second))
        assert results[first][1] == pytest.approx(results[second][1], rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpo", {"divergence": "js", "ld_alpha": 0.4, "wpo": True}),
        ("ipo", {"divergence": "forward_kl", "ld_alpha": 0.2}),
        ("aot", {}),
    ],
    ids=["weighted-dpo", "ipo", "aot"],
)
def test_a_cut_group_learns_as_a_whole_one(float64_model, name, options, adapter):
    """A pair that is larger than the budget, with every route to the gradient of the head."""
    policy, loss = make_policy(float64_model, "qwen3-windowed", adapter), preference_loss(name, **options).loss
    groups = compared(preference_loss(name).data)
    assert not all(part.groups_complete for part in pack(groups, 13))
    whole, figures = gradient(policy, groups, "packed", loss)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    policy.model.zero_grad()
    sums = trainer.accumulate(pack(groups, 13), loss, count_denominators(groups))
    assert_same(whole, {name: p.grad.clone() for name, p in policy.trained_parameters()}, "cut")
    assert {key: float(value) for key, value in sums.items()} == pytest.approx(figures, rel=1e-11, abs=1e-13)


def test_measured_groups_change_only_what_a_loss_takes_from_them(float64_model):
    """KTO's z moves with them; a loss that takes nothing from them does not see them."""
    policy = make_policy(float64_model, "llama", adapter=False)
    groups = CASES["kto"].step(0)
    trained = [group for group in groups if not group.scored_only]
    kto, plain = preference_loss("kto").loss, preference_loss("apo_zero_unpaired").loss
    assert gradient(policy, groups, "packed", kto)[1]["kl"] > 0
    assert gradient(policy, groups, "packed", kto)[1]["loss"] != gradient(policy, trained, "packed", kto)[1]["loss"]
    assert gradient(policy, trained, "packed", kto)[1] == gradient(policy, trained, "packed", plain)[1]
    cross_entropy = LOSSES["plain"]
    assert gradient(policy, groups, "packed", cross_entropy)[1] == gradient(policy, trained, "packed", cross_entropy)[1]
