"""Credit of steps: values by hand, its limits, what changes nothing, and exact zeros."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.credit.credit import Credit, credit
from burnish.credit.scale import EPSILON
from burnish.credit.settings import CreditSettings
from burnish.credit.steps import is_compared_equal, without_steps
from burnish.rounding import deviation
from burnish.types import Group, Response

SCALES = ("group", "batch", "whiten", "none")
BASELINES = ("group", "leave_one_out", "none")


def response(steps: dict[int, float], reward: float | None = None, length: int = 6) -> Response:
    """A response with rewards at the ends of steps; its reward is their sum, unless it is given."""
    rewards = torch.zeros(length, dtype=torch.float64)
    for end, value in steps.items():
        rewards[end] = value
    return Response(
        tokens=torch.arange(length),
        trainable=torch.ones(length, dtype=torch.bool),
        reward=math.fsum(steps.values()) if reward is None else reward,
        step_rewards=rewards if steps else None,
    )


def group(*responses: Response) -> Group:
    return Group(prompt=torch.tensor([1]), responses=responses)


def advantages(groups: list[Group], **rule: object) -> list[list[list[float]]]:
    credited = credit(groups, Credit(**rule)).groups
    return [[r.advantages.tolist() for r in each.responses if r.advantages is not None] for each in credited]


def test_steps_by_hand():
    """Steps 1, 2 | 6: their mean is 3, their deviation √7. The sums of what follows are −3, −1 and 3."""
    given = [group(response({1: 1.0, 4: 2.0}), response({3: 6.0}))]
    [[first, second]] = advantages(given, advantage_scale="none")
    assert first == [-3, -3, -1, -1, -1, 0]
    assert second == [3, 3, 3, 3, 0, 0]
    scaled = math.sqrt(7) + EPSILON
    [[first, second]] = advantages(given)
    assert first == pytest.approx([-3 / scaled, -3 / scaled, -1 / scaled, -1 / scaled, -1 / scaled, 0])
    assert second == pytest.approx([3 / scaled] * 4 + [0, 0])


def test_what_is_left_of_the_reward_is_credited_to_every_token():
    """Rewards 4 and 2, of which steps have 1 and 3: 3 and −1 are left, 2 from their mean. Steps are 1 from theirs."""
    given = [group(response({1: 1.0}, reward=4.0), response({3: 3.0}, reward=2.0))]
    [[first, second]] = advantages(given, advantage_scale="none")
    assert first == [1, 1, 2, 2, 2, 2]
    assert second == [-1, -1, -1, -1, -2, -2]


def test_leaving_out_a_response_leaves_out_its_steps():
    """The others' steps are 6 for the first response; 1 and 2 for the second."""
    given = [group(response({1: 1.0, 4: 2.0}), response({3: 6.0}))]
    [[first, second]] = advantages(given, advantage_scale="none", baseline="leave_one_out")
    assert first == [-9, -9, -4, -4, -4, 0]
    assert second == [4.5, 4.5, 4.5, 4.5, 0, 0]
    [[alone, other]] = advantages(
        [group(response({1: 1.0, 4: 2.0}), response({}, reward=3.0))], advantage_scale="none", baseline="leave_one_out"
    )
    assert alone == [-3] * 6, "no other response has steps: what is left of the rewards, 0 and 3, is compared alone"
    assert other == [3] * 6


def test_steps_are_scaled_and_whitened_over_the_batch():
    given = [group(response({1: 1.0}), response({2: 3.0})), group(response({0: 2.0}), response({5: 6.0}))]
    whole = deviation([1, 3, 2, 6]) + EPSILON
    [[one, _], [_, four]] = advantages(given, advantage_scale="batch")
    assert one == pytest.approx([-1 / whole] * 2 + [0] * 4)
    assert four == pytest.approx([2 / whole] * 6)
    [[one, two], [three, four]] = advantages(given, advantage_scale="whiten", baseline="none")
    assert [each[0] for each in (one, two, three, four)] == pytest.approx([-2 / whole, 0, -1 / whole, 3 / whole])


def test_a_weight_of_steps_counts_only_without_a_deviation():
    """Twice the rewards of steps: the same normalized steps but for ε, and twice the centered ones."""
    one, two = (group(response({1: w, 4: 2 * w}, reward=3 * w + 1), response({3: 6 * w})) for w in (1.0, 2.0))
    assert advantages([two])[0][0] == pytest.approx(advantages([one])[0][0], rel=1e-3)
    centered = [advantages([each], advantage_scale="none")[0][1][0] for each in (one, two)]
    assert [value + 0.5 for value in centered] == [3, 6]


@pytest.mark.parametrize(("scale", "baseline"), list(itertools.product(SCALES, BASELINES)))
def test_one_step_at_the_end_is_the_whole_response(scale, baseline):
    """The limit of outcome supervision, bit for bit."""
    rewards = [0.3, 0.9, 0.3, 0.55]
    rule = {"advantage_scale": scale, "baseline": baseline}
    stepped = [group(*(response({5: value}) for value in rewards))]
    plain = [group(*(response({}, reward=value) for value in rewards))]
    assert advantages(stepped, **rule) == advantages(plain, **rule)


@pytest.mark.parametrize(("scale", "baseline"), list(itertools.product(SCALES, ("group", "leave_one_out"))))
def test_steps_that_do_not_differ_give_exactly_nothing(scale, baseline):
    """Also where responses have different numbers of them, and therefore different rewards."""
    given = [group(response({0: 0.7, 2: 0.7, 4: 0.7}), response({3: 0.7}))] * 2
    found = advantages(given, advantage_scale=scale, baseline=baseline)
    assert {value for each in found for one in each for value in one} == {0.0}


def test_the_ungraded_and_their_steps_count_nowhere():
    ungraded = replace(response({2: 100.0}), reward=None)
    given = [group(response({1: 1.0}), ungraded, response({3: 3.0}))]
    assert advantages(given) == advantages([group(response({1: 1.0}), response({3: 3.0}))])


@pytest.mark.parametrize(("scale", "baseline"), list(itertools.product(SCALES, BASELINES)))
def test_without_steps_nothing_changes(scale, baseline):
    """Where another group of the batch has steps too, unless the batch is scaled as one."""
    plain, stepped = group(*(response({}, reward=r) for r in (0.1, 0.7, 0.7))), group(response({1: 1.0}), response({}))
    rule = {"advantage_scale": scale, "baseline": baseline}
    alone = advantages([plain], **rule)
    assert all(len(set(one)) == 1 for one in alone[0])
    if scale in ("group", "none"):
        assert advantages([plain, stepped], **rule)[0] == alone[0]


STEPS = st.dictionaries(st.integers(0, 5), st.floats(-4, 4).filter(lambda value: abs(value) > 1e-3), max_size=4)


@given(st.lists(STEPS, min_size=2, max_size=4), st.floats(-5, 5), st.randoms(use_true_random=False))
def test_the_order_of_responses_and_an_equal_bonus_change_nothing(steps, bonus, random):
    responses = [response(each, reward=math.fsum(each.values())) for each in steps]
    [found] = advantages([group(*responses)])
    order = list(range(len(steps)))
    random.shuffle(order)
    [shuffled] = advantages([group(*(responses[index] for index in order))])
    assert shuffled == [found[index] for index in order]
    [raised] = advantages([group(*(replace(r, reward=(r.reward or 0) + bonus) for r in responses))])
    assert torch.allclose(torch.tensor(raised), torch.tensor(found), atol=1e-5)


@given(st.lists(STEPS, min_size=1, max_size=4))
def test_centered_advantages_of_first_tokens_add_up_to_nothing(steps):
    """Σ_i Â_i,first = Σ of all centered steps = 0."""
    [found] = advantages([group(*(response(each) for each in steps))], advantage_scale="none")
    assert sum(one[0] for one in found) == pytest.approx(0, abs=1e-5)


def test_advantages_jump_by_a_step_at_its_end():
    """Â_t − Â_{t+1} is the normalized reward of the step that ends at t, and 0 where none does."""
    [[first, _]] = advantages([group(response({0: 0.25, 3: -1.5}), response({1: 0.5, 5: 2.0}))], advantage_scale="none")
    mean = (0.25 - 1.5 + 0.5 + 2.0) / 4
    jumps = [one - other for one, other in itertools.pairwise([*first, 0.0])]
    assert jumps == pytest.approx([0.25 - mean, 0, 0, -1.5 - mean, 0, 0])


def test_what_is_left_of_a_reward_is_exact():
    tenth = response({0: 0.1, 1: 0.2}, reward=0.30000000000000004)
    assert without_steps(group(tenth), torch.tensor([0.30000000000000004], dtype=torch.float64)).tolist() == [0.0]


def test_when_comparing_gives_nothing():
    def equal(*responses: Response) -> bool:
        each = group(*responses)
        rewards = [math.nan if r.reward is None else r.reward for r in responses]
        return is_compared_equal(each, torch.tensor(rewards, dtype=torch.float64))

    assert equal(response({}, reward=1.0), response({}, reward=1.0))
    assert not equal(response({}, reward=1.0), response({}, reward=0.0))
    assert not equal(response({1: 0.2, 3: 0.8}), response({1: 0.5, 3: 0.5})), "equal sums, different steps"
    assert equal(response({1: 0.5, 3: 0.5}), response({2: 0.5})), "equal steps, different sums"
    assert not equal(response({1: 0.5}, reward=1.0), response({2: 0.5}, reward=0.5)), "the rest differs"


def test_the_divergence_is_no_step():
    """A penalty on the reward changes what is left of it."""
    logprobs = {"sampler_logprobs": torch.full((6,), -1.0), "reference_logprobs": torch.full((6,), -1.5)}
    given = [group(replace(response({1: 1.0}), **logprobs), replace(response({3: 1.0}, length=6), **logprobs))]
    rule = CreditSettings(advantage_scale="none", reward_kl_coef=0.1)
    assert {v for r in credit(given, rule).groups[0].responses for v in r.advantages.tolist()} == {0.0}
