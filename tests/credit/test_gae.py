"""Generalized advantage estimation: its definition, hand values, limits, and what each setting changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from burnish.credit.gae import Gae, gae, kl_estimate, length_adaptive_lambda, value_metrics, whitened
from burnish.credit.settings import GaeSettings, KlEstimator
from burnish.types import Group, Response

PLAIN = GaeSettings(whiten_advantages=False)
numbers = st.floats(-5, 5, allow_nan=False, width=32)
episodes = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.lists(numbers, min_size=n, max_size=n), st.lists(numbers, min_size=n, max_size=n))
)
shares = st.floats(0, 1, width=32)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def response(
    values: list[float], policy: list[float] | None = None, reference: list[float] | None = None, **more: object
) -> Response:
    size = len(values)
    streams = {"sampler_logprobs": policy, "reference_logprobs": reference, "values": values}
    given_streams = {name: tensor(*stream) for name, stream in streams.items() if stream is not None}
    ready: dict[str, object] = {"trainable": torch.ones(size, dtype=torch.bool), "finish": "end", **more}
    return Response(tokens=torch.arange(size), **given_streams, **ready)  # type: ignore[arg-type]


def group(*responses: Response) -> Group:
    return Group(prompt=torch.tensor([1]), responses=responses)


def credited(settings: GaeSettings, groups: list[Group], rewards: list[Tensor]) -> list[Response]:
    return [each for [item] in Gae(settings).assign(groups, rewards) for each in item.responses]


@given(episodes, numbers, shares, shares)
def test_it_is_the_weighted_sum_of_temporal_differences(episode, bootstrap, gamma, lam):
    rewards, values = (tensor(*each) for each in episode)
    following = torch.cat([values[1:], tensor(bootstrap)])
    deltas = rewards + gamma * following - values
    size = len(rewards)
    expected = [sum((gamma * lam) ** (k - t) * float(deltas[k]) for k in range(t, size)) for t in range(size)]
    assert torch.allclose(gae(rewards, values, bootstrap, gamma, lam), tensor(*expected), rtol=1e-9, atol=1e-9)


@given(episodes, numbers, shares)
def test_with_lambda_one_it_is_the_return_minus_the_value(episode, bootstrap, gamma):
    rewards, values = (tensor(*each) for each in episode)
    size, found = len(rewards), gae(rewards, values, bootstrap, gamma, 1.0)
    for t in range(size):
        total = sum(gamma ** (k - t) * float(rewards[k]) for k in range(t, size)) + gamma ** (size - t) * bootstrap
        assert math.isclose(float(found[t]), total - float(values[t]), rel_tol=1e-9, abs_tol=1e-9)


@given(episodes, numbers, shares)
def test_with_lambda_zero_it_is_the_temporal_difference(episode, bootstrap, gamma):
    rewards, values = (tensor(*each) for each in episode)
    following = torch.cat([values[1:], tensor(bootstrap)])
    assert torch.allclose(gae(rewards, values, bootstrap, gamma, 0.0), rewards + gamma * following - values)


def test_by_hand():
    """δ = (0 + 0.9·2 − 1, 1 − 2) = (0.8, −1); A = (0.8 + 0.45·(−1), −1)."""
    assert torch.allclose(gae(tensor(0, 1), tensor(1, 2), 0.0, 0.9, 0.5), tensor(0.35, -1))
    assert torch.allclose(gae(tensor(0, 1), tensor(1, 2), 4.0, 0.9, 0.5), tensor(0.8 + 0.45 * 2.6, 2.6))


def test_estimators_by_hand():
    policy, reference = tensor(-1.0, -2.0), tensor(-1.5, -1.0)
    assert torch.allclose(kl_estimate(policy, reference, "k1"), tensor(0.5, -1.0))
    assert torch.allclose(kl_estimate(policy, reference, "k2"), tensor(0.125, 0.5))
    assert torch.allclose(kl_estimate(policy, reference, "k3"), tensor(math.exp(-0.5) - 0.5, math.e - 2))


def distribution(seed: int) -> Tensor:
    return torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_policy_gradient_of_an_estimator_in_the_reward(estimator: KlEstimator):
    """E[k ∇ log π] over a whole vocabulary: of k1 ∇KL(π ‖ π_ref), of k2 ∇E[k2] − ∇KL, of k3 ∇KL − ∇KL(π_ref ‖ π)."""
    logits, reference = distribution(0), distribution(1).detach().log_softmax(0)
    policy = logits.log_softmax(0)
    weights = kl_estimate(policy.detach(), reference, estimator) * policy.detach().exp()
    [found] = torch.autograd.grad((weights * policy).sum(), logits, retain_graph=True)
    kl = (policy.exp() * (policy - reference)).sum()
    if estimator == "k1":
        expected = kl
    elif estimator == "k2":
        expected = (policy.exp() * (reference - policy).square() / 2).sum() - kl
    else:
        expected = kl - (reference.exp() * (reference - policy)).sum()
    assert torch.allclose(found, torch.autograd.grad(expected, logits)[0], rtol=1e-10, atol=1e-12)


def test_the_reward_comes_at_the_last_token_and_the_divergence_at_each():
    settings = replace(PLAIN, kl_coef=0.5, gae_lambda=1.0)
    given_response = response([0.0, 0.0], policy=[-1.0, -2.0], reference=[-2.0, -1.0])
    [found] = credited(settings, [group(given_response)], [tensor(3.0)])
    assert torch.allclose(found.advantages.double(), tensor(3 - 0.5 * (1 - 1), 3 + 0.5))
    assert torch.allclose(found.returns, found.advantages)


def test_rewards_of_steps_come_where_steps_end_and_add_up_to_the_reward():
    """A reward of 3, of which steps have 1 and 0.5: the rest, 1.5, comes at the end."""
    given_response = response([0.0] * 4, step_rewards=tensor(0, 1, 0.5, 0))
    [found] = credited(replace(PLAIN, gae_lambda=0.0), [group(given_response)], [tensor(3.0)])
    assert torch.allclose(found.advantages.double(), tensor(0, 1, 0.5, 1.5))


def test_policy_and_critic_have_their_own_lambda():
    settings = replace(PLAIN, gae_lambda=0.0, critic_lambda=1.0)
    [found] = credited(settings, [group(response([1.0, 2.0]))], [tensor(5.0)])
    assert torch.allclose(found.advantages.double(), tensor(1, 3))
    assert torch.allclose(found.returns.double(), tensor(5, 5))


def test_a_length_adaptive_lambda():
    assert length_adaptive_lambda(100, 0.05) == pytest.approx(0.8)
    assert length_adaptive_lambda(10, 0.05) == 0
    settings = replace(PLAIN, length_adaptive_alpha=1.0)  # λ of two tokens is ½, of four ¾
    short, long = response([1.0, 2.0]), response([1.0, 2.0, 0.0, 0.0])
    for each, lam in ((short, 0.5), (long, 0.75)):
        [found] = credited(settings, [group(each)], [tensor(5.0)])
        rewards = torch.cat([torch.zeros(len(each.tokens) - 1, dtype=torch.float64), tensor(5.0)])
        assert torch.allclose(found.advantages.double(), gae(rewards, each.values, 0.0, 1.0, lam))


def test_truncated_responses_end_or_go_on():
    truncated = response([0.0, 0.0], finish="length", bootstrap_value=4.0)
    ended = replace(truncated, finish="end")
    settings = replace(PLAIN, gae_lambda=1.0, gamma=0.5)
    for bootstraps, given_response, last in ((False, truncated, 1), (True, truncated, 3), (True, ended, 1)):
        rule = replace(settings, bootstrap_truncated=bootstraps)
        [found] = credited(rule, [group(given_response)], [tensor(1.0)])
        assert torch.allclose(found.advantages.double(), tensor(last / 2, last))


def test_foreign_tokens_are_no_actions():
    """Values and rewards pass over them, and they have no advantage."""
    with_tool = response([1.0, 9.0, 2.0], trainable=torch.tensor([True, False, True]))
    [found] = credited(replace(PLAIN, gae_lambda=0.0), [group(with_tool)], [tensor(5.0)])
    assert torch.allclose(found.advantages.double(), tensor(1, 0, 3))
    untrained = response([1.0], trainable=torch.tensor([False]))
    [[kept]] = Gae(PLAIN).assign([group(untrained)], [tensor(1.0)])
    assert kept.responses[0].advantages.tolist() == [0.0], "it is in no loss, and has its place among the graded"


def test_ungraded_responses_are_left_out_and_nothing_graded_is_nothing():
    groups = [group(response([0.0]), response([0.0, 0.0])), group(response([0.0]))]
    first, second = Gae(PLAIN).assign(groups, [tensor(math.nan, 1.0), tensor(math.nan)])
    assert [len(each.tokens) for each in first[0].responses] == [2]
    assert second == ()
    assert Gae(PLAIN).assign(groups, [tensor(math.nan, math.nan), tensor(math.nan)]) == [(), ()]


def test_whitening_is_over_all_tokens_of_the_batch():
    groups = [group(response([0.0, 1.0]), response([2.0])), group(response([0.0, 0.0, 5.0]))]
    rewards = [tensor(1.0, -1.0), tensor(2.0)]
    plain = torch.cat([each.advantages for each in credited(PLAIN, groups, rewards)]).double()
    found = torch.cat([each.advantages for each in credited(GaeSettings(), groups, rewards)]).double()
    assert torch.allclose(found, (plain - plain.mean()) / plain.std(), atol=1e-6)
    returns = [each.returns for each in credited(GaeSettings(), groups, rewards)]
    assert all(torch.equal(a, b.returns) for a, b in zip(returns, credited(PLAIN, groups, rewards), strict=True))


def test_what_is_equal_is_whitened_to_exact_zeros():
    assert all(bool((each == 0).all()) for each in whitened([tensor(0.1 + 0.2, 0.3), tensor(0.3)]))
    assert whitened([tensor(0.3, 0.3)], center=False)[0].tolist() == [0.3, 0.3]


def test_whitened_rewards_keep_their_sign():
    [first, second] = whitened([tensor(1.0, 3.0), tensor(2.0, 6.0)], center=False)
    deviation = float(tensor(1, 3, 2, 6).std())
    assert torch.allclose(torch.cat([first, second]), tensor(1, 3, 2, 6) / deviation)


def test_an_adaptive_coefficient_follows_the_target_within_bounds():
    """KL of the batch 2 nats a response: target 1 gives the bound 0.2, target 2.2 an error of −1/11."""
    given_response = response([0.0, 0.0], policy=[-1.0, -1.0], reference=[-2.0, -2.0])
    for target, change in ((1.0, 0.2), (2.2, -1 / 11), (100.0, -0.2)):
        rule = Gae(replace(PLAIN, kl_coef=0.5, kl_target=target, kl_coef_gain=0.1))
        rule.assign([group(given_response)], [tensor(1.0)])
        assert rule.metrics["response_kl"] == pytest.approx(2)
        assert rule.metrics["kl_coef"] == 0.5
        assert rule.kl_coef == pytest.approx(0.5 * (1 + 0.1 * change))
        restored = Gae(rule.settings)
        restored.load_state_dict(rule.state_dict())
        assert restored.kl_coef == rule.kl_coef


def test_a_coefficient_is_not_adapted_while_the_policy_is_not_trained():
    given_response = response([0.0], policy=[-1.0], reference=[-1.0])
    rule = Gae(replace(PLAIN, kl_coef=0.5, kl_target=1.0, kl_warmup_batches=2))
    for expected in (0.5, 0.5, 0.5 * 0.98):
        rule.assign([group(given_response)], [tensor(1.0)])
        assert rule.kl_coef == pytest.approx(expected)


def test_a_fixed_coefficient_stays_and_none_needs_no_reference():
    rule = Gae(replace(PLAIN, kl_coef=0.5))
    rule.assign([group(response([0.0], policy=[-1.0], reference=[-9.0]))], [tensor(1.0)])
    assert rule.kl_coef == 0.5
    assert Gae(replace(PLAIN, kl_coef=0.5)).needs_reference
    assert not Gae(PLAIN).needs_reference


def test_value_metrics_by_hand():
    returns = tensor(0, 1, 0, 1)
    exact = value_metrics(returns, returns)
    assert exact == {"value_bias": 0, "explained_variance": 1, "value_calibration_error": 0}
    constant = value_metrics(torch.full_like(returns, 0.75), returns)
    assert constant["explained_variance"] == pytest.approx(0)
    assert constant["value_bias"] == pytest.approx(0.25)
    assert value_metrics(-returns, returns)["explained_variance"] == pytest.approx(1 - 4)
    assert "explained_variance" not in value_metrics(returns, torch.ones(4, dtype=torch.float64))


def test_calibration_compares_within_bins_of_similar_values():
    """Ten bins of two tokens, in each of which the mean return is right: a noisy but calibrated critic."""
    values = torch.arange(10, dtype=torch.float64).repeat_interleave(2)
    noise = tensor(0.4, -0.4).repeat(10)
    assert value_metrics(values, values + noise)["value_calibration_error"] == pytest.approx(0)
    assert value_metrics(values, values + 0.3)["value_calibration_error"] == pytest.approx(0.3)
