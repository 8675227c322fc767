"""Cross-entropy: by hand, in its limits, and against torch's."""

import math

import pytest
import torch

from burnish.losses.cross_entropy import CrossEntropy
from burnish.packing import pack
from burnish.types import Denominator, LossOutput, Microbatch, Score, TokenScores
from tests.conftest import make_groups

V = 11


@pytest.fixture
def microbatch() -> Microbatch:
    [packed] = pack(make_groups([(4, [5, 3]), (2, [6])], holes=True), 100)
    return packed


def make_scores(logits: torch.Tensor, targets: torch.Tensor) -> TokenScores:
    logprobs = logits.log_softmax(-1)
    return TokenScores(
        logprob=logprobs.gather(1, targets[:, None])[:, 0],
        log_partition=logits.logsumexp(-1),
        mean_logprob=logprobs.mean(-1),
    )


def keep(scores: TokenScores, loss: CrossEntropy) -> TokenScores:
    """Only what the loss asked for, as scoring gives it."""
    return TokenScores(**{kind.value: getattr(scores, kind.value) for kind in loss.needs})


def total(output: LossOutput, counts: dict[Denominator, float]) -> torch.Tensor:
    return sum(term.total / counts[term.denominator] for term in output.terms.values())


def test_by_hand(microbatch):
    """Every token with probability 1/2: the weighted mean is log 2, whatever the weights."""
    half = torch.full((len(microbatch.targets),), math.log(0.5))
    output = CrossEntropy()(TokenScores(logprob=half), microbatch)
    assert float(output.terms["cross_entropy"].total) / float(microbatch.weights.sum()) == pytest.approx(math.log(2))
    assert output.terms["cross_entropy"].denominator is Denominator.WEIGHT


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_equals_torch_with_weights_and_smoothing(microbatch, smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(microbatch.targets), V, dtype=torch.float64, generator=generator)
    targets = microbatch.targets % V
    loss = CrossEntropy(label_smoothing=smoothing)
    weights = microbatch.weights.double()
    mine = total(loss(keep(make_scores(logits, targets), loss), microbatch), {Denominator.WEIGHT: float(weights.sum())})
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    assert float(mine) == pytest.approx(float((weights * each).sum() / weights.sum()), rel=1e-12)


def test_z_loss_by_hand(microbatch):
    """Two equal logits of log 3: log Z = log 6, and only the term of z-loss counts beside log 2."""
    logits = torch.full((len(microbatch.targets), 2), math.log(3.0), dtype=torch.float64)
    loss = CrossEntropy(z_loss=0.5)
    output = loss(keep(make_scores(logits, microbatch.targets % 2), loss), microbatch)
    weight = float(microbatch.weights.double().sum())
    assert float(output.terms["z_loss"].total) / weight == pytest.approx(0.5 * math.log(6) ** 2)
    assert float(output.terms["cross_entropy"].total) / weight == pytest.approx(math.log(2))


def test_z_loss_is_not_linear_and_says_so(microbatch):
    assert CrossEntropy(z_loss=1e-4).score_gradients(microbatch, dict.fromkeys(Denominator, 1.0)) is None


def test_it_asks_only_for_what_it_uses():
    assert set(CrossEntropy().needs) == {Score.LOGPROB}
    assert set(CrossEntropy(0.1, 0.1).needs) == {Score.LOGPROB, Score.MEAN_LOGPROB, Score.LOG_PARTITION}
