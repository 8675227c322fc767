"""Where one preference loss becomes another: values and gradients, on random rows of several tokens."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
import torch
from torch import Tensor

from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.losses.preference.implicit import LogOdds, LogProb
from burnish.losses.preference.listwise import Listwise
from burnish.losses.preference.logistic import Logistic
from burnish.losses.preference.options import DataNeeds
from burnish.losses.preference.pairs import Pairs, policy_weight
from burnish.types import Group, TokenScores
from tests.preferences import compared, group_of, in_one, value


def step(data: DataNeeds = DataNeeds.PAIR, scale: float = 1.0, seed: int = 0) -> tuple[list[Group], Tensor]:
    """Random groups, and log-probabilities at `scale` times a random distance from the reference's."""
    groups = compared(data, seed)
    reference = in_one(groups).reference_logprobs
    noise = torch.randn(len(reference), dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 9))
    return groups, reference + scale * noise


def both(loss: Loss, groups: list[Group], logprob: Tensor) -> tuple[float, Tensor]:
    leaf = logprob.clone().requires_grad_()
    total = value(loss, groups, leaf, collision=torch.zeros_like(leaf))
    [gradient] = torch.autograd.grad(total, leaf)
    return float(total.detach()), gradient


def assert_equal(one: Loss, other: Loss, groups: list[Group], logprob: Tensor, rel: float = 1e-12) -> None:
    (a, slope_a), (b, slope_b) = both(one, groups, logprob), both(other, groups, logprob)
    assert a == pytest.approx(b, rel=rel)
    assert torch.allclose(slope_a, slope_b, rtol=rel, atol=rel * float(slope_b.abs().max()))


def named(name: str, **options: object) -> Loss:
    return preference_loss(name, **options).loss


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("cdpo", {"label_smoothing": 0.0}), ("dpo", {})),
        (("robust_dpo", {"label_smoothing": 0.0}), ("dpo", {})),
        (("beta_dpo", {"alpha": 0.0}), ("dpo", {})),
        (("dpo", {"divergence": "alpha", "divergence_alpha": 0.0}), ("dpo", {})),
        (("dpo", {"divergence": "alpha", "divergence_alpha": 1.0}), ("dpo", {"divergence": "forward_kl"})),
        (("exo", {"divergence": "alpha", "divergence_alpha": 0.0}), ("exo", {})),
        (("plackett_luce", {}), ("dpo", {})),
        (("alphapo", {"alpha": 0.0}), ("simpo", {})),
        (("simpo", {"margin": 0.0}), ("alphapo", {"margin": 0.0, "alpha": 0.0})),
    ],
)
def test_special_cases_by_construction(one, other):
    assert_equal(named(one[0], **one[1]), named(other[0], **other[1]), *step())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("dpo", {"divergence": "alpha", "divergence_alpha": 1e-7}), ("dpo", {})),
        (("alphapo", {"alpha": 1e-7}), ("simpo", {})),
        (("dpo", {"ld_alpha": 1 - 1e-7}), ("dpo", {})),
        (("discopop", {"temperature": 0.99, "beta": 1e-7}), ("dpo", {"beta": 1e-7})),
    ],
)
def test_limits_that_are_approached(one, other):
    groups, logprob = step()
    a, b = (float(value(named(name, **options), groups, logprob)) for name, options in (one, other))
    if one[0] == "discopop":  # at equal rewards: half of log 2, half of 1
        b = (b + 1) / 2
    assert a == pytest.approx(b, rel=1e-5)


def test_length_normalised_is_plain_where_responses_have_one_token():
    rows = [group_of([(-1.0, -3.0)], [(-2.0, -1.5)]), group_of([(-0.5, -1.0)], [(-2.0, -2.5)])]
    groups, logprob = [group for group, _ in rows], torch.cat([row for _, row in rows])
    assert_equal(named("dpo_norm"), named("dpo"), groups, logprob)
    assert_equal(named("ipo"), named("ipo", per_token=False), groups, logprob)
    assert_equal(named("simpo", margin=0), named("cpo", beta=2, nll_coef=0), groups, logprob)


def test_without_tails_responses_are_cut_to_the_same_length():
    """LD-DPO with α = 0 is DPO on the first tokens of each."""
    group, logprob = group_of([(-1.0, -2.0), (-3.0, -1.0)], [(-1.5, -1.0), (-2.0, -1.0), (-9.0, -1.0)])
    cut, same = group_of([(-1.0, -2.0), (-3.0, -1.0)], [(-1.5, -1.0), (-2.0, -1.0)])
    assert float(value(named("dpo", ld_alpha=0), [group], logprob)) == float(value(named("dpo"), [cut], same))


def test_of_equally_long_responses_none_has_a_tail():
    group, logprob = group_of([(-1.0, -2.0), (-3.0, -1.0)], [(-1.5, -1.0), (-2.0, -1.0)])
    assert_equal(named("dpo", ld_alpha=0.3), named("dpo"), [group], logprob)


@pytest.mark.parametrize("label_smoothing", [0.05, 0.3])
def test_exo_and_cdpo_agree_around_their_common_minimum(label_smoothing):
    """Same place, slope 0, same curvature ε(1 − ε)."""
    beta = 1.0
    place = log((1 - label_smoothing) / label_smoothing)
    curvatures = []
    for name in ("exo", "cdpo"):
        loss = named(name, beta=beta, label_smoothing=label_smoothing)

        def slope(x: float, loss: Loss = loss) -> float:
            group, logprob = group_of([(x, 0.0)], [(0.0, 0.0)])
            return float(both(loss, [group], logprob)[1][0])

        assert slope(place) == pytest.approx(0, abs=1e-12)
        curvatures.append((slope(place + 1e-5) - slope(place - 1e-5)) / 2e-5)
    expected = label_smoothing * (1 - label_smoothing)
    assert curvatures == pytest.approx([expected, expected], rel=1e-6)


def test_robust_dpo_is_unbiased():
    """The mean over right and flipped labels of the robust loss is DPO's on right labels."""
    share = 0.2
    group, logprob = group_of([(-1.0, -3.0)], [(-2.0, -1.0)])
    flipped, other = group_of([(-2.0, -1.0)], [(-1.0, -3.0)])
    loss = named("robust_dpo", label_smoothing=share)
    mean = (1 - share) * float(value(loss, [group], logprob)) + share * float(value(loss, [flipped], other))
    assert mean == pytest.approx(float(value(named("dpo"), [group], logprob)))


def test_hinge_and_dpo_push_very_wrong_pairs_alike():
    group, logprob = group_of([(-90.0, -1.0)], [(-1.0, -90.0)])
    hinge, dpo = (both(named(name, beta=0.5), [group], logprob)[1] for name in ("hinge", "dpo"))
    assert torch.allclose(hinge, dpo, rtol=1e-12)


def test_discopop_is_dpo_for_wrong_pairs_and_exponential_for_right_ones():
    wrong, row = group_of([(-4.0, -1.0)], [(-1.0, -4.0)])
    assert_equal(named("discopop", beta=1), named("dpo", beta=1), [wrong], row, rel=1e-6)
    right, row = group_of([(-1.0, -4.0)], [(-4.0, -1.0)])
    assert float(value(named("discopop", beta=1), [right], row)) == pytest.approx(torch.e**-6, rel=1e-12)


def test_discopop_of_hopeless_pairs_is_finite():
    group, logprob = group_of([(-900.0, -1.0)], [(-1.0, -900.0)])
    total, gradient = both(named("discopop", beta=1), [group], logprob)
    assert total == pytest.approx(1798)
    assert gradient.tolist() == pytest.approx([-1, 1])


def test_sppo_of_opposite_rewards_is_half_of_ipo_with_twice_the_target():
    group, logprob = group_of([(-1.0, -3.0)], [(-3.0, -1.0)])
    sppo = float(value(named("sppo", beta=0.5), [group], logprob))
    assert sppo == pytest.approx(0.5 * float(value(named("ipo", beta=0.25), [group], logprob)))


def test_absolute_contrasts_where_rewards_are_equal():
    group, logprob = group_of([(-1.0, -3.0)], [(-0.5, -2.5)])
    assert float(value(named("apo_zero"), [group], logprob)) == pytest.approx(1.0)
    down = 0.5 + float(torch.tensor(0.2, dtype=torch.float64).sigmoid())
    assert float(value(named("apo_down"), [group], logprob)) == pytest.approx(down)
    assert float(value(named("nca"), [group], logprob)) == pytest.approx(float(value(named("bco"), [group], logprob)))


def test_shifted_bco_is_bco_where_rewards_cancel():
    group, logprob = group_of([(-1.0, -3.0)], [(-3.0, -1.0)])
    assert_equal(named("bco_shifted"), named("bco"), [group], logprob)


def test_aot_of_one_pair_is_dpo():
    groups, logprob = step()
    first = logprob[: len(in_one(groups[:1]).predictor_positions)]
    assert_equal(named("aot"), named("dpo"), groups[:1], first)
    assert_equal(named("aot_unpaired"), named("dpo"), groups[:1], first)


def test_aot_does_not_know_pairs():
    """Which rejected response belongs to which chosen one makes no difference to the unpaired loss."""
    tokens = [[(-1.0, -3.0)], [(-2.0, -1.0)], [(-0.5, -1.0)], [(-2.0, -2.5)]]
    losses = []
    for order in ((0, 1, 2, 3), (0, 3, 2, 1)):
        rows = [group_of(tokens[order[0]], tokens[order[1]]), group_of(tokens[order[2]], tokens[order[3]])]
        groups, logprob = [group for group, _ in rows], torch.cat([row for _, row in rows])
        losses.append(float(value(named("aot_unpaired"), groups, logprob)))
        losses.append(float(value(named("dpo"), groups, logprob)))
    assert losses[0] == pytest.approx(losses[2])
    assert losses[1] != pytest.approx(losses[3])


def test_kto_without_measured_pairs_is_apo_zero_of_single_verdicts():
    groups, logprob = step(DataNeeds.VERDICT)
    assert_equal(named("kto"), named("apo_zero_unpaired"), groups, logprob)


def test_apo_zero_of_pairs_is_twice_that_of_verdicts():
    """A mean over pairs of two costs is twice the mean over responses."""
    groups, logprob = step()
    judged = [
        replace(group, responses=tuple(replace(r, reward=1.0 - k) for k, r in enumerate(group.responses)))
        for group in groups
    ]
    paired = float(value(named("apo_zero"), groups, logprob))
    assert paired == pytest.approx(2 * float(value(named("apo_zero_unpaired"), judged, logprob)))


def test_lipo_of_a_pair_is_dpo_times_what_an_exchange_changes():
    groups, logprob = step()
    scored = [
        replace(group, responses=tuple(replace(r, reward=1.0 - k) for k, r in enumerate(group.responses)))
        for group in groups
    ]
    change = 1 / log(2) - 1 / log(3)
    assert change == pytest.approx(0.5325, abs=1e-4)
    lipo, dpo = float(value(named("lipo"), scored, logprob)), float(value(named("dpo"), scored, logprob))
    assert lipo == pytest.approx(change * dpo)


@pytest.mark.parametrize("name", ["plackett_luce", "lipo"])
def test_a_list_of_one_costs_nothing_and_disturbs_nothing(name):
    groups, logprob = step(DataNeeds.SCORED)
    alone, row = group_of([(-1.0, -2.0), (-2.0, -1.0)], rewards=[0.3])
    total, gradient = both(named(name), [*groups, alone], torch.cat([logprob, row]))
    without, expected = both(named(name), groups, logprob)
    assert total * (len(groups) + 1) == pytest.approx(without * len(groups))
    assert torch.allclose(gradient[: len(logprob)] * (len(groups) + 1), expected * len(groups))
    assert gradient[len(logprob) :].abs().max() == 0


def test_rankings_of_the_same_reward_split_evenly():
    """At a stage's beginning, where policy and reference agree, Plackett–Luce of n is log n!."""
    group, logprob = group_of([(-1.0, -1.0)], [(-2.0, -2.0)], [(-0.5, -0.5)], [(-3.0, -3.0)])
    loss = named("plackett_luce")
    assert isinstance(loss, Listwise)
    assert float(value(loss, [group], logprob)) == pytest.approx(log(24))


def test_log_odds_of_rare_responses_are_log_probabilities():
    group, logprob = group_of([(-30.0, 0.0), (-32.0, 0.0)], [(-33.0, 0.0)])
    odds, plain = Pairs(LogOdds(), Logistic()), Pairs(LogProb(1.0, per_token=True), Logistic())
    assert_equal(odds, plain, [group], logprob, rel=1e-9)


def test_log_odds_of_certain_responses_are_finite():
    group, logprob = group_of([(0.0, 0.0)], [(-1e-20, 0.0)])
    total, gradient = both(named("orpo"), [group], logprob)
    assert torch.isfinite(torch.tensor(total))
    assert torch.isfinite(gradient).all()


def test_a_divergence_far_from_the_reference_is_finite():
    """Where a response has become e^900 times less likely, e^900 is held."""
    group, logprob = group_of([(-901.0, -1.0)], [(-1.0, -2.0)])
    total, gradient = both(named("dpo", divergence="forward_kl"), [group], logprob.float())
    assert torch.isfinite(torch.tensor(total))
    assert torch.isfinite(gradient).all()


def test_gold_alone_is_learned_by_tpo_and_cpo_alike():
    """TPO on (gold, chosen, rejected) without likelihood is CPO's contrast on (chosen, rejected)."""
    triple, logprob = group_of([(-0.5, -1.0)], [(-1.0, -3.0)], [(-2.0, -1.0)])
    pair = replace(triple, responses=triple.responses[1:])
    tpo = float(value(named("tpo", beta=0.1, nll_coef=0), [triple], logprob))
    assert tpo == pytest.approx(float(value(named("cpo", beta=0.1, nll_coef=0), [pair], logprob[1:])))


def test_what_the_policy_is_sure_of_has_weight_one():
    """log p = log Σ p² = 0: WPO is DPO."""
    groups, _ = step()
    sure = torch.zeros(len(in_one(groups).predictor_positions), dtype=torch.float64)
    weights = policy_weight(TokenScores(logprob=sure, log_collision=sure), in_one(groups))
    assert torch.equal(weights, torch.ones_like(weights))
    assert_equal(named("dpo", wpo=True), named("dpo"), groups, sure)


def test_likelihood_of_groups_of_one_is_cross_entropy():
    groups, logprob = step(DataNeeds.VERDICT)
    single = [replace(group, responses=group.responses[:1]) for group in groups]
    row = logprob[: len(in_one(single).predictor_positions)]
    assert_equal(named("sft"), CrossEntropy(), single, row)


def test_prompt_tokens_belong_to_no_response():
    """A trained prompt changes no preference loss."""
    groups, _ = step()
    with_prompt = [replace(g, prompt_weights=torch.tensor([0.0] + [2.0] * (len(g.prompt) - 1))) for g in groups]
    microbatch = in_one(with_prompt)
    logprob = torch.linspace(-3, -1, len(microbatch.predictor_positions), dtype=torch.float64)
    own = logprob[microbatch.response_positions >= 0]
    for name in ("dpo", "ipo", "simpo", "orpo", "sft"):
        loss = named(name)
        assert float(value(loss, with_prompt, logprob)) == pytest.approx(float(value(loss, groups, own)))
