"""Every preference loss by hand, on responses of one token.

Log-ratios are 2 (chosen) and −1 (rejected), so with β = 1/2 the rewards are 1 and −1/2, and their difference 3/2.
"""

from __future__ import annotations

from math import exp, log, log1p

import pytest
import torch

from burnish.losses.preference.build import preference_loss, weighted_losses
from burnish.losses.preference.kto import Kto
from burnish.losses.preference.registry import PREFERENCE_LOSSES
from burnish.types import TokenScores
from tests.preferences import figures, group_of, in_one, value


def cost(x: float) -> float:
    """−log σ(x)"""
    return log1p(exp(-x))


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def odds(logprob: float) -> float:
    return log(exp(logprob) / (1 - exp(logprob)))


PAIR = group_of([(-1.0, -3.0)], [(-2.0, -1.0)])
TRIPLE = group_of([(-0.5, -1.0)], [(-1.0, -3.0)], [(-2.0, -1.0)])
Q = sigmoid(1.5)
HALF = {"beta": 0.5}
BY_HAND = [
    ("dpo", HALF, cost(1.5)),
    ("dpo_norm", HALF, cost(1.5)),
    ("cdpo", {**HALF, "label_smoothing": 0.1}, 0.9 * cost(1.5) + 0.1 * cost(-1.5)),
    ("robust_dpo", {**HALF, "label_smoothing": 0.1}, (0.9 * cost(1.5) - 0.1 * cost(-1.5)) / 0.8),
    ("beta_dpo", {**HALF, "alpha": 0.6, "m0": 0.5}, cost(1.6 * 1.5)),
    ("ipo", HALF, (3 - 1) ** 2),
    ("hinge", HALF, 0.0),
    ("hinge", {"beta": 0.1}, 0.7),
    ("exo", {**HALF, "label_smoothing": 0.1}, Q * (log(Q) - log(0.9)) + (1 - Q) * (log(1 - Q) - log(0.1))),
    ("discopop", {**HALF, "temperature": 0.5}, (1 - sigmoid(3)) * cost(1.5) + sigmoid(3) * exp(-1.5)),
    ("nca", HALF, cost(1) + 0.5 * cost(-1) + 0.5 * cost(0.5)),
    ("bco", HALF, cost(1) + cost(0.5)),
    ("bco_shifted", HALF, 2 * cost(0.75)),
    ("sppo", HALF, (2 - 1) ** 2 + (-1 + 1) ** 2),
    ("apo_zero", HALF, 1 - sigmoid(1) + sigmoid(-0.5)),
    ("apo_down", HALF, sigmoid(1) + 1 - sigmoid(1.5)),
    ("aot", {**HALF, "label_smoothing": 0.2}, 0.8 * cost(1.5) + 0.2 * cost(-1.5)),
    ("aot_unpaired", HALF, cost(1.5)),
    ("orpo", {"weight": 0.1}, 1 + 0.1 * cost(odds(-1) - odds(-2))),
    ("simpo", {"beta": 2, "margin": 0.5}, cost(2 * (-1 + 2) - 0.5)),
    ("simpo", {"beta": 2, "margin": 0.5, "label_smoothing": 0.1}, 0.9 * cost(1.5) + 0.1 * cost(-1.5)),
    ("alphapo", {"beta": 2, "margin": 1, "alpha": 0.5}, cost(2 * (exp(1.0) - exp(0.5)) / 0.5 - 1)),
    ("cpo", HALF, cost(0.5) + 1),
    ("cpo", {**HALF, "nll_coef": 0}, cost(0.5)),
    ("plackett_luce", HALF, cost(1.5)),
    ("sft", {}, 1.0),
]


@pytest.mark.parametrize(("name", "options", "expected"), BY_HAND)
def test_by_hand(name, options, expected):
    group, logprob = PAIR
    assert float(value(preference_loss(name, **options).loss, [group], logprob)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"divergence": "forward_kl"}, (1 - exp(-2)) - (1 - exp(1))),
        ({"divergence": "js"}, log(2 / (1 + exp(-2))) - log(2 / (1 + exp(1)))),
        ({"divergence": "alpha", "divergence_alpha": 0.5}, (1 - exp(-1)) / 0.5 - (1 - exp(0.5)) / 0.5),
    ],
)
@pytest.mark.parametrize("name", ["dpo", "ipo", "hinge"])
def test_divergences_by_hand(name, options, difference):
    """f'(e^l) takes the place of the log-ratio l."""
    loss = preference_loss(name, beta=0.1, **options).loss
    costs = {"dpo": cost(0.1 * difference), "ipo": (difference - 5) ** 2, "hinge": 1 - 0.1 * difference}
    group, logprob = PAIR
    assert float(value(loss, [group], logprob)) == pytest.approx(costs[name], rel=1e-12)


def test_triples_by_hand():
    """The contrast is between the second and the third; the first is learned."""
    group, logprob = TRIPLE
    assert float(value(preference_loss("tpo", beta=0.5, nll_coef=2).loss, [group], logprob)) == pytest.approx(
        cost(0.5) + 2 * 0.5
    )
    assert float(value(preference_loss("tpo_l", beta=2, margin=0.5).loss, [group], logprob)) == pytest.approx(
        cost(1.5) + 0.5
    )


def test_rankings_by_hand():
    """Rewards 1/4, 1, −1/2 with β = 1/2."""
    group, logprob = group_of([(-0.5, -1.0)], [(-1.0, -3.0)], [(-2.0, -1.0)], rewards=[3.0, 1.0, 0.0])
    first = -log(exp(0.25) / (exp(0.25) + exp(1) + exp(-0.5)))
    assert float(value(preference_loss("plackett_luce", beta=0.5).loss, [group], logprob)) == pytest.approx(
        first + cost(1.5)
    )
    discount = [1 / log(3), 1 / log(2), 1 / log(4)]  # ranks 2, 1, 3
    expected = (
        (7 - 1) * abs(discount[0] - discount[1]) * cost(-0.75)
        + (7 - 0) * abs(discount[0] - discount[2]) * cost(0.75)
        + (1 - 0) * abs(discount[1] - discount[2]) * cost(1.5)
    )
    assert float(value(preference_loss("lipo", beta=0.5).loss, [group], logprob)) == pytest.approx(expected)


def test_verdicts_by_hand():
    """Two wanted and one unwanted; z from two mismatched pairs with log-ratios 3 and −1."""
    rows = [
        group_of([(-1.0, -3.0)], rewards=[1.0]),
        group_of([(-2.0, -1.0)], rewards=[0.0]),
        group_of([(-1.0, -1.0)], rewards=[1.0]),
    ]
    groups, logprob = [group for group, _ in rows], torch.cat([row for _, row in rows])
    measured = [group_of([(-1.0, -4.0)]), group_of([(-2.0, -1.0)])]
    scores = TokenScores(logprob=torch.cat([row for _, row in measured]))
    loss = Kto(0.5, desirable_weight=1.0, undesirable_weight=2.0).with_measurements(
        scores, in_one([group for group, _ in measured])
    )
    assert float(loss.z) == 1.0
    found = figures(loss, groups, logprob)
    expected = (1 - sigmoid(0.5 * (2 - 1))) + 2 * (1 - sigmoid(0.5 * (1 + 1))) + (1 - sigmoid(0.5 * (0 - 1)))
    assert found["loss"] == pytest.approx(expected / 3)
    assert found["kl"] == 1.0
    assert (found["reward_desirable"], found["reward_undesirable"]) == (0.5, -0.5)
    assert (found["logprob_desirable"], found["logprob_undesirable"]) == (-1.0, -2.0)


def test_z_is_not_below_zero():
    group, logprob = group_of([(-4.0, -1.0)])
    assert float(Kto().with_measurements(TokenScores(logprob=logprob), in_one([group])).z) == 0.0


def test_lengths():
    """Chosen of two tokens, rejected of three: sums for DPO, means where a loss is normalised."""
    group, logprob = group_of([(-1.0, -2.0), (-1.0, -2.0)], [(-1.0, -1.5), (-2.0, -1.0), (-1.0, -1.0)])
    ratios = 2.0, 0.5 - 1.0
    by_name = {
        ("dpo", 0.5): cost(0.5 * (ratios[0] - ratios[1])),
        ("dpo_norm", 0.5): cost(0.5 * (ratios[0] / 2 - ratios[1] / 3)),
        ("ipo", 0.5): (ratios[0] / 2 - ratios[1] / 3 - 1) ** 2,
    }
    for (name, beta), expected in by_name.items():
        assert float(value(preference_loss(name, beta=beta).loss, [group], logprob)) == pytest.approx(expected)
    assert float(value(preference_loss("ipo", beta=0.5, per_token=False).loss, [group], logprob)) == pytest.approx(
        (2.5 - 1) ** 2
    )
    assert float(value(preference_loss("simpo", beta=1, margin=0).loss, [group], logprob)) == pytest.approx(
        cost(-1 + 4 / 3)
    )
    assert float(value(preference_loss("cpo", beta=1).loss, [group], logprob)) == pytest.approx(cost(-2 + 4) + 2 / 2)
    assert float(value(preference_loss("sft", per="response").loss, [group], logprob)) == pytest.approx(1.0)


def test_tokens_beyond_the_shorter_response_count_less():
    """LD-DPO: the third token of the rejected response has log-ratio −1 and counts α."""
    group, logprob = group_of([(-1.0, -2.0), (-1.0, -2.0)], [(-1.0, -1.5), (-2.0, -1.0), (-2.0, -1.0)])
    for alpha in (0.0, 0.3, 1.0):
        expected = cost(0.5 * (2.0 - (0.5 - 1.0 - alpha)))
        loss = preference_loss("dpo", beta=0.5, ld_alpha=alpha).loss
        assert float(value(loss, [group], logprob)) == pytest.approx(expected)


def test_pairs_that_the_policy_would_not_write_count_less():
    """WPO: weights e^(mean of log p − log Σ p²), multiplied over the pair."""
    group, logprob = group_of([(-1.0, -2.0), (-3.0, -2.0)], [(-2.0, -1.0)])
    collision = torch.tensor([-0.5, -1.5, -1.0], dtype=torch.float64)
    weight = exp((-0.5 - 1.5) / 2) * exp(-1.0)
    loss = preference_loss("dpo", beta=0.5, wpo=True).loss
    assert float(value(loss, [group], logprob, collision)) == pytest.approx(weight * cost(0.5 * (0 + 1)))


def test_sorted_values_meet():
    """AOT on two pairs: rewards 1, −1/2 and 1/4, 3/4."""
    rows = [PAIR, group_of([(-1.0, -1.5)], [(-1.0, -2.5)])]
    groups, logprob = [group for group, _ in rows], torch.cat([row for _, row in rows])
    unpaired = value(preference_loss("aot_unpaired", beta=0.5).loss, groups, logprob)
    assert float(unpaired) == pytest.approx((cost(0.25 + 0.5) + cost(1 - 0.75)) / 2)
    # Margins of the policy: 1/2 and 0; of the reference: −1 and 1/2.
    paired = value(preference_loss("aot", beta=0.5).loss, groups, logprob)
    assert float(paired) == pytest.approx((cost(0 + 1) + cost(0.5 - 0.5)) / 2)


def test_what_is_watched_of_pairs():
    rows = [PAIR, group_of([(-1.0, -1.0)], [(-2.0, -2.0)])]
    groups, logprob = [group for group, _ in rows], torch.cat([row for _, row in rows])
    found = figures(preference_loss("dpo", beta=0.5).loss, groups, logprob)
    assert found == pytest.approx(
        {
            "loss": (cost(1.5) + cost(0)) / 2,
            "reward_chosen": 0.5,
            "reward_rejected": -0.25,
            "reward_margin": 0.75,
            "pair_accuracy": 0.75,  # the second pair is a tie
            "logprob_chosen": -1.0,
            "logprob_rejected": -2.0,
            "kl": (2.0 + 0.5) / 4,
        }
    )


def test_what_is_watched_of_rankings():
    group, logprob = group_of([(-0.5, -1.0)], [(-1.0, -3.0)], [(-2.0, -1.0)])
    alone, one = group_of([(-1.0, -1.0)])
    found = figures(preference_loss("plackett_luce", beta=0.5).loss, [group, alone], torch.cat([logprob, one]))
    assert found["reward_margin"] == pytest.approx(0.75 / 2)
    assert found["pair_accuracy"] == pytest.approx((2 / 3) / 2)


def test_a_sum_reports_weighted_terms():
    group, logprob = PAIR
    loss = weighted_losses([("dpo", 2.0, HALF), ("sft", 0.5, {}), ("bco", 1.0, HALF)]).loss
    found = figures(loss, [group], logprob)
    assert found["dpo"] == pytest.approx(2 * cost(1.5))
    assert found["sft"] == pytest.approx(0.5)
    assert found["loss"] == pytest.approx(found["dpo"] + found["sft"] + found["bco"])
    assert found["reward_chosen"] == 1.0


def test_every_loss_is_worked_out():
    """By name, here or in the tests of triples, rankings and verdicts."""
    elsewhere = {"tpo", "tpo_l", "lipo", "kto", "apo_zero_unpaired"}
    assert {name for name, _, _ in BY_HAND} | elsewhere == set(PREFERENCE_LOSSES)
