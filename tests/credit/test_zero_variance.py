"""Rewards that do not differ give advantages of exactly 0 by every rule: the rounding of a mean is no signal.

The one exception is REINFORCE without a baseline and without a scale, whose advantage is the reward itself.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.credit.combine import combined, contributions
from burnish.credit.credit import Credit, zero_variance
from burnish.credit.pairing import Pairing
from burnish.stages.rl.algorithms import ALGORITHMS
from burnish.types import Group, Response

RULES = {
    f"{baseline}, {scale}": Credit(baseline=baseline, advantage_scale=scale)
    for baseline, scale in itertools.product(("group", "leave_one_out", "none"), ("group", "batch", "whiten", "none"))
    if (baseline, scale) != ("none", "none")
}
NAMED = {name: Credit.of(chosen.credit) for name, chosen in ALGORITHMS.items()}
RULES |= {name: rule for name, rule in NAMED.items() if rule not in RULES.values()}
few = settings(max_examples=25)
ROUNDING = [0.7, 1.2, 100.1, -0.1, 1 / 3, 1e-9, 12345.678]
"""Numbers whose mean of several rounds."""


def group(rewards) -> Group:
    tokens = torch.arange(2)
    responses = [Response(tokens=tokens, trainable=tokens >= 0, reward=reward) for reward in rewards]
    return Group(prompt=torch.tensor([1]), responses=tuple(responses))


def advantages(rule: Credit, batch, rewards=None) -> torch.Tensor:
    groups = [group(rewards) for rewards in batch]
    given_rewards = rewards or [torch.tensor([math.nan if r is None else r for r in each]).double() for each in batch]
    lessons = rule.assign(groups, given_rewards)
    return torch.cat([response.advantages for [each] in lessons for response in each.responses])


@pytest.mark.parametrize("name", RULES)
@few
@given(
    reward=st.one_of(st.sampled_from(ROUNDING), st.floats(-1e6, 1e6)),
    sizes=st.lists(st.integers(1, 17), min_size=1, max_size=3),
)
def test_equal_rewards_give_advantages_of_exactly_0(name, reward, sizes):
    found = advantages(RULES[name], [[reward] * size for size in sizes])
    assert torch.equal(found, torch.zeros(2 * sum(sizes)))


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.baseline != "none"])
@few
@given(rewards=st.lists(st.sampled_from(ROUNDING), min_size=2, max_size=5), size=st.integers(2, 9))
def test_groups_of_equal_rewards_have_nothing_of_each_other(name, rewards, size):
    """Where responses are compared within a prompt, other prompts' rewards may be others."""
    assert not advantages(RULES[name], [[reward] * size for reward in rewards]).any()


@pytest.mark.parametrize("name", RULES)
def test_a_group_without_signal_has_none_beside_one_with(name):
    if RULES[name].baseline == "none":
        return  # there the one is compared with the other
    found = advantages(RULES[name], [[0.7] * 8, [0.0, 1.0, 1.0]])
    assert not found[:16].any()
    assert found[16:].all()


@pytest.mark.parametrize("name", RULES)
def test_rewards_that_differ_by_rounding_are_equal(name):
    """0.1 + 0.2 is not 0.3 in floats: two ways to the same sum of rewards."""
    assert not advantages(RULES[name], [[0.1 + 0.2, 0.3, 0.3], [0.3, 0.3, 0.1 + 0.2]]).any()
    assert zero_variance([0.1 + 0.2, 0.3])


@pytest.mark.parametrize("name", RULES)
def test_rewards_that_differ_in_float32_differ(name):
    assert advantages(RULES[name], [[1.0, 1.0 + 2**-23]]).any()
    assert not zero_variance([1.0, 1.0 + 2**-23])


@pytest.mark.parametrize("name", RULES)
def test_the_unjudged_change_nothing(name):
    found = advantages(RULES[name], [[0.7, None, 0.7, 0.7], [None, 0.7]])
    assert torch.equal(found, torch.zeros(8))


@pytest.mark.parametrize("name", RULES)
@few
@given(rewards=st.lists(st.integers(0, 20), min_size=2, max_size=8), turn=st.integers(1, 7))
def test_the_order_of_responses_changes_nothing(name, rewards, turn):
    """Bit for bit: sums are exact."""
    values = [reward / 7 for reward in rewards]
    plain = advantages(RULES[name], [values])[::2]
    turned = advantages(RULES[name], [values[turn % len(values) :] + values[: turn % len(values)]])[::2]
    assert torch.equal(turned, plain.roll(-(turn % len(values))))


@pytest.mark.parametrize(
    "name", [name for name, rule in RULES.items() if "none" not in (rule.baseline, rule.advantage_scale)]
)
@few
@given(rewards=st.lists(st.integers(0, 20), min_size=2, max_size=8), shift=st.integers(-50, 50))
def test_what_all_rewards_have_more_changes_nothing(name, rewards, shift):
    plain = advantages(RULES[name], [[float(reward) for reward in rewards]])
    assert torch.equal(advantages(RULES[name], [[float(reward + shift) for reward in rewards]]), plain)


def test_without_baseline_and_scale_it_is_the_reward():
    assert torch.equal(advantages(Credit("none", "none"), [[0.7, 0.7]]), torch.full((4,), 0.7))


@few
@given(value=st.sampled_from(ROUNDING), count=st.integers(2, 9))
def test_several_rewards_that_are_the_same_for_all_add_exactly_nothing(value, count):
    """Also to GDPO's sum, and where weights cancel what is equal: 0.1 + 0.2 − 0.3."""
    same, varying = torch.full((count, 3), value).double(), torch.arange(count).double()
    weights = torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
    for combination in ("sum", "normalized_sum"):
        assert not contributions(same, weights, combination).any()
    equal = torch.stack([varying] * 3, dim=1)
    rewards = combined([same, equal], weights, "normalized_sum")
    assert not torch.cat(rewards).any()
    rule = Credit("none", "whiten", "normalized_sum")
    assert not advantages(rule, [[0.0] * count] * 2, rewards).any()


@pytest.mark.parametrize("form", ["best_worst", "all", "ranking"])
def test_responses_that_differ_by_rounding_are_no_pair(form):
    rewards = torch.tensor([0.3, 0.1 + 0.2, 0.3], dtype=torch.float64)
    [[silent]] = Pairing(form, needs_reference=False).assign([group([0.0] * 3)], [rewards])
    assert not any(response.weights.any() for response in silent.responses)


def test_only_pairs_that_differ_are_compared():
    rewards = torch.tensor([0.3, 0.1 + 0.2, 1.0], dtype=torch.float64)
    [pairs] = Pairing("all", needs_reference=False).assign([group([0.0] * 3)], [rewards])
    assert [[response.reward for response in pair.responses] for pair in pairs] == [[1.0, 0.1 + 0.2], [1.0, 0.3]]
