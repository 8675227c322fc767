"""The policy-gradient family: by hand, in its limits, exact in expectation, and the same at a ratio of one."""

import itertools
import math

import pytest
import torch

from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.importance import importance_weights
from burnish.losses.policy.settings import Cispo, ImportanceCorrection, NoClip, PpoClip, Sapo
from burnish.packing import count_denominators, pack
from burnish.types import Denominator, Group, Response, Score, TokenScores

DENOMINATORS = {Denominator.TOKENS: 5.0, Denominator.SEQUENCES: 2.0}


def groups(advantages, sampler=None, reference=None, old=None) -> list[Group]:
    """One prompt, two responses of 2 and 3 tokens."""
    responses = []
    for k, length in enumerate((2, 3)):
        part = slice(0, 2) if k == 0 else slice(2, 5)
        responses.append(
            Response(
                tokens=torch.arange(length),
                trainable=torch.ones(length, dtype=torch.bool),
                advantages=torch.tensor(advantages, dtype=torch.float64)[part],
                sampler_logprobs=None if sampler is None else torch.tensor(sampler, dtype=torch.float64)[part],
                old_logprobs=None if old is None else torch.tensor(old, dtype=torch.float64)[part],
                reference_logprobs=None if reference is None else torch.tensor(reference, dtype=torch.float64)[part],
            )
        )
    return [Group(prompt=torch.tensor([0]), responses=tuple(responses))]


def value(loss: PolicyGradient, logprobs, *streams, entropy=None):
    """The step's loss, its gradient with respect to the log-probabilities, and what is watched."""
    batch = groups(*streams)
    [microbatch] = pack(batch, 100)
    logprob = torch.tensor(logprobs, dtype=torch.float64, requires_grad=True)
    entropies = None if entropy is None else torch.tensor(entropy, dtype=torch.float64)
    output = loss(TokenScores(logprob=logprob, entropy=entropies), microbatch)
    counts = count_denominators(batch)
    total = sum(term.total / counts[term.denominator] for term in output.terms.values())
    gradient = torch.autograd.grad(total, logprob)[0]
    known = loss.score_gradients(microbatch, counts)
    if known is not None:
        assert torch.allclose(known[Score.LOGPROB], gradient, rtol=1e-12, atol=0)
    return total.item(), gradient, output


ADVANTAGES = [2.0, 2.0, -1.0, -1.0, -1.0]
LOGPROBS = [-1.0, -2.0, -0.5, -3.0, -1.5]
BEFORE = [-1.0 - math.log(1.5), -2.0, -0.5 + math.log(2), -3.0, -1.5]  # ratios 1.5, 1, 0.5, 1, 1


def test_clipping_by_hand():
    """Objectives: min(3, 1.2·2) = 2.4, 2; min(−0.5, −0.8) = −0.8, −1, −1."""
    loss = PolicyGradient(old_logprobs="sampler", loss_aggregation="token")
    total, gradient, output = value(loss, LOGPROBS, ADVANTAGES, BEFORE)
    assert math.isclose(total, -(2.4 + 2 - 0.8 - 1 - 1) / 5)
    assert torch.allclose(gradient, torch.tensor([0, -2, 0, 1, 1], dtype=torch.float64) / 5)
    assert float(output.metrics["clip_fraction"].total) == 2


def test_aggregations_by_hand():
    """Every token by number; every response by its own length; every response by one length."""
    sums = {
        PolicyGradient(loss_aggregation="token"): -(4 - 3) / 5,
        PolicyGradient(loss_aggregation="sequence"): -(4 / 2 - 3 / 3) / 2,
        PolicyGradient(loss_aggregation="fixed", fixed_length=10): -(4 - 3) / 10 / 2,
    }
    for loss, expected in sums.items():
        assert math.isclose(value(loss, LOGPROBS, ADVANTAGES)[0], expected)


def test_a_sequence_ratio_by_hand():
    """GSPO: √1.5 and the cube root of 0.5, the first within 1.3, the second below 1 − 0.1."""
    loss = PolicyGradient(
        ratio_level="sequence", clip=PpoClip(0.1, 0.3), old_logprobs="sampler", loss_aggregation="sequence"
    )
    total, gradient, _ = value(loss, LOGPROBS, ADVANTAGES, BEFORE)
    first, second = 1.5**0.5 * 2, -0.9
    assert math.isclose(total, -(first + second) / 2)
    expected = [-first / 2 / 2] * 2 + [0.0] * 3
    assert torch.allclose(gradient, torch.tensor(expected, dtype=torch.float64))


def test_a_bound_on_each_token_before_the_mean():
    """GMPO: log-ratios 1.5 → at most 0.1 where the advantage is positive, 0.5 → at least −0.1 where it is negative."""
    clip = PpoClip(0.9, 9.0, token_log_ratio_limit=0.1)
    loss = PolicyGradient(ratio_level="sequence", clip=clip, old_logprobs="sampler", loss_aggregation="sequence")
    total, gradient, _ = value(loss, LOGPROBS, ADVANTAGES, BEFORE)
    assert math.isclose(total, -(math.exp(0.05) * 2 - math.exp(-0.1 / 3)) / 2)
    assert gradient[0] == 0
    assert gradient[2] == 0


def test_capped_keeps_every_gradient_and_bounds_its_weight():
    loss = PolicyGradient(clip=Cispo(1.2), old_logprobs="sampler")
    _, gradient, output = value(loss, LOGPROBS, ADVANTAGES, BEFORE)
    expected = torch.tensor([-1.2 * 2, -2, 0.5, 1, 1], dtype=torch.float64) / 5
    assert torch.allclose(gradient, expected)
    assert float(output.metrics["clip_fraction"].total) == 1


def test_a_dual_clip_bounds_what_exploded():
    sampler = [0.0, 0.0, -0.5 - math.log(10), -3.0, -1.5]  # the third ratio is 10
    total, gradient, _ = value(
        PolicyGradient(clip=PpoClip(dual_clip=3.0), old_logprobs="sampler"), LOGPROBS, ADVANTAGES, sampler
    )
    free, free_gradient, _ = value(PolicyGradient(old_logprobs="sampler"), LOGPROBS, ADVANTAGES, sampler)
    assert math.isclose(free - total, (10 - 3) / 5)
    assert gradient[2] == 0
    assert free_gradient[2] > 0


MEMBERS = {
    "clip_fraction": PpoClip(),
    "higher": PpoClip(0.2, 0.28, dual_clip=3.0),
    "capped": Cispo(),
    "soft": Sapo(),
    "unclipped": NoClip(),
    "limited": PpoClip(token_log_ratio_limit=0.4),
}


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("aggregation", ["token", "sequence", "fixed"])
@pytest.mark.parametrize("clip", MEMBERS)
def test_with_one_update_all_members_have_the_gradient_of_the_plain_one(clip, ratio, aggregation):
    """The ratio is exactly 1; `value` also holds the known coefficients against the gradient."""
    length = 7 if aggregation == "fixed" else None
    settings = {"loss_aggregation": aggregation, "fixed_length": length, "ratio_level": ratio}
    mine = value(PolicyGradient(clip=MEMBERS[clip], **settings), LOGPROBS, ADVANTAGES)[1]
    plain = value(PolicyGradient(clip=NoClip(), **settings), LOGPROBS, ADVANTAGES)[1]
    assert torch.allclose(mine, plain, rtol=1e-12, atol=0)
    again = value(
        PolicyGradient(clip=MEMBERS[clip], old_logprobs="sampler", **settings), LOGPROBS, ADVANTAGES, LOGPROBS
    )[1]
    assert torch.allclose(again, plain, rtol=1e-12, atol=0)


def test_token_advantages_under_a_sequence_ratio_count_by_their_mean():
    advantages = [1.0, 3.0, -1.0, 0.0, 4.0]
    value(PolicyGradient(ratio_level="sequence", loss_aggregation="sequence"), LOGPROBS, advantages)


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        (ImportanceCorrection("token", "tis", max_weight=1.2), [1.2, 1, 0.5, 1, 1]),
        (ImportanceCorrection("token", "mis", max_weight=1.2, min_weight=0.6), [0, 1, 0, 1, 1]),
        (ImportanceCorrection("sequence", "tis", max_weight=9), [1.5, 1.5, 0.5, 0.5, 0.5]),
        (ImportanceCorrection("mean", "tis", max_weight=9), [1.5**0.5] * 2 + [0.5 ** (1 / 3)] * 3),
        (ImportanceCorrection("sequence", "mis", max_weight=2, min_weight=0.6), [1.5, 1.5, 0, 0, 0]),
    ],
    ids=lambda each: f"{each.level}-{each.rule}" if isinstance(each, ImportanceCorrection) else "",
)
def test_corrections_by_hand(correction, expected):
    [microbatch] = pack(groups(ADVANTAGES, BEFORE), 100)
    weights = importance_weights(correction, torch.tensor(LOGPROBS, dtype=torch.float64), microbatch)
    assert torch.allclose(weights, torch.tensor(expected, dtype=torch.float64))


def test_ratio_and_correction_apart_by_hand():
    """The trainer computed BEFORE, so ratios are 1.5, 1, 0.5, 1, 1; the sampler had half of its probability at the
    first token and twice at the last: weights 2 → 1.8, and 0.5."""
    sampler = [BEFORE[0] - math.log(2), *BEFORE[1:4], BEFORE[4] + math.log(2)]
    loss = PolicyGradient(
        old_logprobs="recomputed", importance_correction=ImportanceCorrection("token", "tis", max_weight=1.8)
    )
    total, gradient, output = value(loss, LOGPROBS, ADVANTAGES, sampler, None, BEFORE)
    assert math.isclose(total, -(1.8 * 2.4 + 2 - 0.8 - 1 - 0.5) / 5)
    assert torch.allclose(gradient, torch.tensor([0, -2, 0, 1, 0.5], dtype=torch.float64) / 5)
    assert math.isclose(float(output.metrics["sampler_logprob_diff"].total), 2 * math.log(2))
    assert float(output.metrics["correction_limited"].total) == 1


def test_what_the_trainer_computed_is_what_the_sampler_reported_where_they_agree():
    streams = (ADVANTAGES, BEFORE, None, BEFORE)
    for correction in (None, ImportanceCorrection("sequence", "mis", max_weight=1.0, min_weight=1.0)):
        mine = value(PolicyGradient(old_logprobs="recomputed", importance_correction=correction), LOGPROBS, *streams)
        plain = value(PolicyGradient(old_logprobs="sampler"), LOGPROBS, *streams)
        assert mine[0] == plain[0]
        assert mine[1].equal(plain[1])


def test_a_probability_that_the_sampler_thought_impossible_makes_no_nan():
    sampler = [-1e30, -2.0, -0.5, -3.0, -1.5]
    masked = PolicyGradient(importance_correction=ImportanceCorrection("token", "mis", max_weight=2.0))
    total, gradient, _ = value(masked, LOGPROBS, ADVANTAGES, sampler)
    assert math.isfinite(total)
    assert bool(gradient.isfinite().all())
    assert gradient[0] == 0
    assert math.isclose(total, -(2 - 3) / 5), "the mask zeroes a numerator, and the denominator stays"


class Enumerated:
    """Responses of two tokens from three, and everything exact."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.first = torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_()
        self.second = torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_()
        sampler = torch.randn(4, 3, dtype=torch.float64, generator=generator).log_softmax(-1)
        reference = torch.randn(4, 3, dtype=torch.float64, generator=generator).log_softmax(-1)
        self.sampler, self.reference = (sampler[0], sampler[1:]), (reference[0], reference[1:])
        self.rewards = torch.rand(3, 3, dtype=torch.float64, generator=generator)

    def policy(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first.log_softmax(-1), self.second.log_softmax(-1)

    def expected(self, loss: PolicyGradient, sampler, advantages) -> list[torch.Tensor]:
        """Gradient of E over all responses, drawn from the sampler, of the loss's sum over tokens."""
        first, second = self.policy()
        total = torch.zeros((), dtype=torch.float64)
        for a, b in itertools.product(range(3), repeat=2):
            probability = (sampler[0][a] + sampler[1][a, b]).detach().exp()
            response = Response(
                tokens=torch.tensor([a, b]),
                trainable=torch.ones(2, dtype=torch.bool),
                advantages=torch.full((2,), float(advantages[a, b]), dtype=torch.float64),
                sampler_logprobs=torch.stack([sampler[0][a], sampler[1][a, b]]).detach(),
                reference_logprobs=torch.stack([self.reference[0][a], self.reference[1][a, b]]),
            )
            [microbatch] = pack([Group(prompt=torch.tensor([0]), responses=(response,))], 10)
            output = loss(TokenScores(logprob=torch.stack([first[a], second[a, b]])), microbatch)
            total = total + probability * sum(term.total for term in output.terms.values())
        return list(torch.autograd.grad(total, [self.first, self.second]))

    def exact(self, objective) -> list[torch.Tensor]:
        first, second = self.policy()
        return list(torch.autograd.grad(objective(first, second), [self.first, self.second]))


def same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return all(torch.allclose(f, e, rtol=0, atol=1e-12) for f, e in zip(found, expected, strict=True))


def test_the_policy_gradient_is_that_of_the_expected_reward():
    model = Enumerated()
    found = model.expected(PolicyGradient(), [each.detach() for each in model.policy()], model.rewards)
    exact = model.exact(lambda first, second: -((first[:, None] + second).exp() * model.rewards).sum())
    assert same(found, exact)


def test_corrected_by_the_product_it_is_so_for_any_sampler():
    model = Enumerated()
    loss = PolicyGradient(importance_correction=ImportanceCorrection("sequence", "tis", max_weight=1e9))
    exact = model.exact(lambda first, second: -((first[:, None] + second).exp() * model.rewards).sum())
    assert same(model.expected(loss, model.sampler, model.rewards), exact)
    uncorrected = model.expected(PolicyGradient(), model.sampler, model.rewards)
    assert not same(uncorrected, exact)


@pytest.mark.parametrize("kl", ["k2", "k3"])
def test_what_the_gradient_of_an_estimate_of_the_divergence_is(kl):
    """On-policy, prefixes held fixed: k2 that of KL(π ‖ π_ref), k3 that of KL(π_ref ‖ π), at every prefix."""
    model = Enumerated()
    now = [each.detach() for each in model.policy()]
    found = model.expected(PolicyGradient(kl_coef=1.0, kl_estimator=kl), now, torch.zeros(3, 3))
    reference = model.reference

    def exact(first, second):
        if kl == "k2":
            parts = (first.exp() * (first - reference[0])).sum(), (second.exp() * (second - reference[1])).sum(-1)
        else:
            parts = (
                (reference[0].exp() * (reference[0] - first)).sum(),
                (reference[1].exp() * (reference[1] - second)).sum(-1),
            )
        return parts[0] + (now[0].exp() * parts[1]).sum()

    assert same(found, model.exact(exact))
