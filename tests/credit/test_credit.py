"""Credit: values by hand, exact expectations over everything that can be sampled, and what happens to the unjudged."""

import itertools
import math

import pytest
import torch

from burnish.credit.baseline import group_mean, leave_one_out
from burnish.credit.combine import combined, contributions
from burnish.credit.credit import Credit, credit, kl_shaped, zero_variance
from burnish.credit.scale import EPSILON, scaled
from burnish.types import Group, Response

NAN = math.nan


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(found: torch.Tensor, *expected: float) -> bool:
    return torch.allclose(found.double(), tensor(*expected), rtol=0, atol=1e-6, equal_nan=True)


def test_baselines_by_hand():
    assert close(group_mean(tensor(1, 0, 0, 3)), 0, -1, -1, 2)
    assert close(leave_one_out(tensor(1, 0, 0, 3)), 0, -4 / 3, -4 / 3, 8 / 3)


def test_what_nobody_judged_counts_in_no_baseline():
    assert close(group_mean(tensor(1, NAN, 0)), 0.5, NAN, -0.5)
    assert close(leave_one_out(tensor(1, NAN, 0)), 1, NAN, -1)
    assert close(leave_one_out(tensor(1, NAN)), 0, NAN)


def test_leaving_out_is_the_mean_times_n_over_n_minus_one():
    rewards = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(leave_one_out(rewards), group_mean(rewards) * 7 / 6)


def test_scales_by_hand():
    first, second = tensor(1, 3), tensor(2, 6)
    compared = [group_mean(first), group_mean(second)]
    deviations = math.sqrt(2) + EPSILON, math.sqrt(8) + EPSILON
    [one, two] = scaled(compared, [first, second], "group")
    assert close(one, -1 / deviations[0], 1 / deviations[0])
    assert close(two, -2 / deviations[1], 2 / deviations[1])
    whole = math.sqrt((4 + 0 + 1 + 9) / 3) + EPSILON  # of 1, 3, 2, 6, whose mean is 3
    assert close(scaled(compared, [first, second], "batch")[1], -2 / whole, 2 / whole)
    assert scaled(compared, [first, second], "none") == compared


def test_whitening_gives_mean_zero_and_deviation_one():
    rewards = [tensor(0, 1, 5), tensor(2), tensor(NAN, 7)]
    found = torch.cat(scaled(rewards, rewards, "whiten"))
    judged = found[~found.isnan()]
    assert abs(float(judged.mean())) < 1e-12
    assert math.isclose(float(judged.std()), 1, rel_tol=1e-4)
    assert bool(found[4].isnan())


@pytest.mark.parametrize("scale", ["group", "batch", "whiten", "none"])
def test_equal_rewards_teach_nothing_and_are_not_nan(scale):
    rewards = tensor(1, 1, 1)
    [found] = scaled([group_mean(rewards)], [rewards], scale)
    assert close(found, 0, 0, 0)


def test_rewards_are_added_or_first_brought_to_one_size():
    parts = torch.stack([tensor(0, 1, 0, 1), tensor(100, 0, 0, 100)], dim=1)
    assert close(combined([parts], tensor(1, 0.5), "sum")[0], 50, 1, 0, 51)
    [found] = combined([parts], tensor(1, 1), "normalized_sum")
    half = 0.5 / (math.sqrt(1 / 3) + EPSILON)
    large = 50 / (math.sqrt(1e4 / 3) + EPSILON)
    assert close(found, -half + large, half - large, -half - large, half + large)


def test_a_reward_that_did_not_judge_is_left_out_of_the_sum():
    parts = torch.stack([tensor(1, NAN, NAN), tensor(2, 4, NAN)], dim=1)
    assert close(combined([parts], tensor(1, 10), "sum")[0], 21, 40, NAN)


def response(reward: float | None, length: int = 2) -> Response:
    return Response(
        tokens=torch.arange(length),
        trainable=torch.ones(length, dtype=torch.bool),
        sampler_logprobs=torch.full((length,), -1.0),
        reference_logprobs=torch.full((length,), -1.5),
        reward=reward,
    )


def group(*rewards: float | None) -> Group:
    return Group(prompt=torch.tensor([1]), responses=tuple(response(r, 2 + k) for k, r in enumerate(rewards)))


def test_every_token_gets_the_advantage_of_its_response():
    found = credit([group(1.0, 0.0)], Credit(advantage_scale="none"))
    assert [r.advantages.tolist() for r in found.groups[0].responses] == [[0.5, 0.5], [-0.5, -0.5, -0.5]]
    assert found.ungraded == 0


def test_the_unjudged_are_left_out_and_counted():
    found = credit([group(1.0, None, 0.0), group(None, None)], Credit(advantage_scale="none"))
    assert [len(each.responses) for each in found.groups] == [2]
    assert found.ungraded == 3


def test_a_divergence_is_subtracted_from_the_reward_or_from_every_token():
    """Every token is 0.5 nats likelier than under the reference; responses have 2 and 3 tokens."""
    of_sequence = credit([group(1.0, 1.0)], Credit(advantage_scale="none", reward_kl_coef=0.1)).groups[0]
    assert close(of_sequence.responses[0].advantages, 0.025, 0.025)  # 0.9 − mean(0.9, 0.85)
    of_token = credit([group(1.0, 1.0)], Credit(advantage_scale="none", advantage_kl_coef=0.1)).groups[0]
    assert close(of_token.responses[1].advantages, -0.05, -0.05, -0.05)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [([1, 1], True), ([0, 1], False), ([1], True), ([None, 1], True), ([None, 1, 0], False), ([], True)],
    ids=str,
)
def test_groups_without_signal(rewards, expected):
    assert zero_variance(rewards) == expected


class Enumerated:
    """A policy over four tokens, with everything exact: expectations are sums over all that can be sampled."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_()
        self.rewards = torch.rand(4, dtype=torch.float64, generator=generator)
        self.reference = torch.randn(4, dtype=torch.float64, generator=generator).log_softmax(0)

    @property
    def logprobs(self) -> torch.Tensor:
        return self.logits.log_softmax(0)

    def expected_gradient(self, samples: int, advantages) -> torch.Tensor:
        """Σ over all draws of P(draw) · mean_i A_i ∇ log π(y_i)."""
        logprobs = self.logprobs
        total = torch.zeros((), dtype=torch.float64)
        for draw in itertools.product(range(4), repeat=samples):
            chosen = logprobs[list(draw)]
            total = total + chosen.detach().sum().exp() * (advantages(draw) * chosen).mean()
        return torch.autograd.grad(total, self.logits)[0]

    def true_gradient(self) -> torch.Tensor:
        return torch.autograd.grad((self.logprobs.exp() * self.rewards).sum(), self.logits)[0]


@pytest.mark.parametrize("samples", [2, 3])
def test_leave_one_out_is_unbiased_and_the_group_mean_is_short_by_one_part_in_n(samples):
    policy = Enumerated()
    true = policy.true_gradient()
    unbiased = policy.expected_gradient(samples, lambda draw: leave_one_out(policy.rewards[list(draw)]))
    shorter = policy.expected_gradient(samples, lambda draw: group_mean(policy.rewards[list(draw)]))
    assert torch.allclose(unbiased, true, rtol=0, atol=1e-12)
    assert torch.allclose(shorter, true * (samples - 1) / samples, rtol=0, atol=1e-12)


def test_dividing_by_the_groups_deviation_is_biased():
    """Not only in size: another direction."""
    policy = Enumerated()

    def advantages(draw):
        rewards = policy.rewards[list(draw)]
        return scaled([group_mean(rewards)], [rewards], "group")[0]

    found = policy.expected_gradient(3, advantages)
    cosine = torch.nn.functional.cosine_similarity(found, policy.true_gradient(), dim=0)
    assert 0.5 < float(cosine) < 0.9999


def test_a_divergence_as_reward_has_the_gradient_of_the_exact_one():
    policy = Enumerated()

    def advantages(draw):
        chosen = policy.logprobs.detach()[list(draw)]
        return kl_shaped(torch.zeros_like(chosen), chosen, policy.reference[list(draw)], 1.0)

    found = policy.expected_gradient(1, advantages)
    divergence = (policy.logprobs.exp() * (policy.logprobs - policy.reference)).sum()
    assert torch.allclose(found, -torch.autograd.grad(divergence, policy.logits)[0], rtol=0, atol=1e-12)


def test_contributions_add_up_to_what_is_compared():
    parts = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = tensor(1, 0.5, 2)
    for combination in ("sum", "normalized_sum"):
        [whole] = combined([parts], weights, combination)
        found = contributions(parts, weights, combination).sum(dim=1)
        assert torch.allclose(found, group_mean(whole), rtol=0, atol=1e-12)


def test_contributions_by_hand():
    parts = torch.stack([tensor(0, 1, NAN), tensor(2, 4, 6)], dim=1)
    found = contributions(parts, tensor(1, 0.5), "sum")
    assert close(found[:, 0], -0.5, 0.5, NAN)
    assert close(found[:, 1], -1, 0, 1)


def test_a_reward_that_is_the_same_for_all_adds_exactly_nothing():
    """0.1 has a mean that rounds: its difference would be no signal, and be normalised to one."""
    parts = torch.stack([tensor(*[0.1] * 7), tensor(0, 0, 1, 0, 0, 0, 0)], dim=1)
    alone = combined([parts[:, 1:]], tensor(1), "normalized_sum")[0]
    assert combined([parts], tensor(1, 1), "normalized_sum")[0].equal(alone)


def test_what_responses_are_worth_may_be_given():
    groups = [group(1.0, 0.0, 0.0)]
    [found] = credit(groups, Credit(advantage_scale="none"), [tensor(0, NAN, 3)]).groups
    assert [float(r.advantages[0]) for r in found.responses] == [-1.5, 1.5]


def test_normalised_first_and_whitened_then():
    """GDPO by hand: z-scores within each group, their sum, and then mean 0 and deviation 1 over the batch."""
    parts = [torch.stack([tensor(0, 1), tensor(0, 10)], dim=1), torch.stack([tensor(1, 0), tensor(0, 10)], dim=1)]
    rule = Credit(baseline="none", advantage_scale="whiten", reward_combination="normalized_sum")
    rewards = combined(parts, tensor(1, 1), rule.reward_combination)
    lessons = rule.assign([group(0.0, 1.0), group(1.0, 0.0)], rewards)
    found = [float(response.advantages[0]) for [each] in lessons for response in each.responses]
    z, ten = 0.5 / (math.sqrt(0.5) + EPSILON), 5 / (math.sqrt(50) + EPSILON)
    sums = torch.tensor([-z - ten, z + ten, z - ten, ten - z], dtype=torch.float64)
    assert close(torch.tensor(found), *(sums / (sums.std() + EPSILON)).tolist())
    assert rule.group_relative
