"""Scoring against a direct implementation with the whole vocabulary: values, gradients, every route to the gradient."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.model.head import Head, NewRows
from burnish.model.scoring import score
from burnish.packing import pack
from burnish.types import TEACHER_SCORES, VALUE_SCORES, Microbatch, Score, TokenScores
from tests.conftest import VOCABULARY, make_groups

HIDDEN = 7
EVERY = tuple(kind for kind in Score if kind not in VALUE_SCORES | TEACHER_SCORES)
"""Of what the vocabulary's head gives; a value has a head of its own."""


@pytest.fixture
def microbatch() -> Microbatch:
    [packed] = pack(make_groups([(5, [4, 3, 6]), (2, [5])], holes=True), 100)
    return packed


def make_head(*, frozen: bool, bias: bool, softcap: float | None = None, scale: float = 1.0) -> Head:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(VOCABULARY, HIDDEN, dtype=torch.float64, generator=generator).requires_grad_(not frozen)
    offset = torch.randn(VOCABULARY, dtype=torch.float64, generator=generator).requires_grad_(not frozen)
    return Head(weight, offset if bias else None, scale, softcap)


def with_new_rows(head: Head, microbatch: Microbatch) -> Head:
    """The frozen head with rows of its own for two targets, a token that is none, and the last token."""
    others = sorted(set(range(VOCABULARY)) - set(microbatch.targets.tolist()))
    tokens = torch.tensor([*microbatch.targets[:2].tolist(), others[0], VOCABULARY - 1])
    values = torch.randn(4, HIDDEN, dtype=torch.float64, generator=torch.Generator().manual_seed(9)).requires_grad_()
    return replace(head, new_rows=NewRows(tokens, values))


def make_hidden(microbatch: Microbatch) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    shape = (len(microbatch.tokens), HIDDEN)
    return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


def direct(hidden: Tensor, head: Head, microbatch: Microbatch, temperature: float) -> TokenScores:
    """Everything at once, by autograd."""
    apart = head.new_rows
    weight = head.weight if apart is None else head.weight.index_copy(0, apart.tokens, apart.values)
    logits = hidden[microbatch.predictor_positions] @ weight.T
    logits = logits if head.bias is None else logits + head.bias
    logits = logits * head.scale
    logits = logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    return TokenScores(
        logprob=logprobs.gather(1, microbatch.targets[:, None])[:, 0],
        entropy=-(logprobs.exp() * logprobs).sum(-1),
        log_partition=torch.logsumexp(logits / temperature, dim=-1),
        mean_logprob=logprobs.mean(-1),
        log_collision=(logprobs.exp() ** 2).sum(-1).log(),
    )


def leaves(hidden: Tensor, head: Head) -> list[Tensor]:
    rows = None if head.new_rows is None else head.new_rows.values
    return [t for t in (hidden, head.weight, head.bias, rows) if t is not None and t.requires_grad]


@pytest.mark.parametrize("learns", ["nothing", "rows", "head"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(("softcap", "scale"), [(None, 1.0), (2.0, 1.0), (3.0, 0.4)])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("rows_per_chunk", [1, 4, 1000])
def test_values_and_gradients_equal_the_direct_ones(
    microbatch, learns, bias, softcap, scale, temperature, rows_per_chunk
):
    head = make_head(frozen=learns != "head", bias=bias, softcap=softcap, scale=scale)
    if learns == "rows":
        head = with_new_rows(head, microbatch)
    hidden = make_hidden(microbatch)
    chunk_bytes = rows_per_chunk * VOCABULARY * 8
    mine = score(hidden, head, microbatch, EVERY, temperature=temperature, chunk_bytes=chunk_bytes)
    theirs = direct(hidden, head, microbatch, temperature)
    generator = torch.Generator().manual_seed(7)
    total_mine = total_theirs = torch.zeros((), dtype=torch.float64)
    for kind in EVERY:
        a, b = getattr(mine, kind.value), getattr(theirs, kind.value)
        assert torch.allclose(a, b, rtol=0, atol=1e-13), kind
        direction = torch.randn(len(a), dtype=torch.float64, generator=generator)
        total_mine, total_theirs = total_mine + direction @ a, total_theirs + direction @ b
    wanted = torch.autograd.grad(total_theirs, leaves(hidden, head))
    got = torch.autograd.grad(total_mine, leaves(hidden, head))
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kinds", [c for n in (1, 2) for c in itertools.combinations(EVERY, n)])
def test_any_choice_of_scores(microbatch, kinds):
    """Scores that are not requested are None, and do not change the others' gradients."""
    head, hidden = make_head(frozen=False, bias=False), make_hidden(microbatch)
    mine, theirs = score(hidden, head, microbatch, kinds), direct(hidden, head, microbatch, 1.0)
    assert {kind for kind in EVERY if getattr(mine, kind.value) is not None} == set(kinds)
    got = torch.autograd.grad(sum(getattr(mine, k.value).sin().sum() for k in kinds), leaves(hidden, head))
    wanted = torch.autograd.grad(sum(getattr(theirs, k.value).sin().sum() for k in kinds), leaves(hidden, head))
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13)


def test_numeric_derivatives(microbatch):
    """float64 finite differences, independent of any formula of ours."""
    head = make_head(frozen=False, bias=True, softcap=2.5, scale=0.7)

    def scores(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        result = score(hidden, Head(weight, bias, 0.7, 2.5), microbatch, EVERY, temperature=0.9, chunk_bytes=2000)
        return torch.stack([getattr(result, kind.value) for kind in EVERY])

    assert torch.autograd.gradcheck(scores, (make_hidden(microbatch), head.weight, head.bias), nondet_tol=0.0)


def test_known_coefficients_give_the_same_gradient(microbatch):
    head, hidden = make_head(frozen=False, bias=True), make_hidden(microbatch)
    kinds = (Score.LOGPROB, Score.MEAN_LOGPROB)
    weights = [torch.linspace(-1, 2, len(microbatch.targets), dtype=torch.float64), torch.full((1,), 0.25).double()]
    weights[1] = weights[1].expand(len(microbatch.targets))
    known = dict(zip(kinds, weights, strict=True))

    def gradients(coefficients: dict[Score, Tensor] | None) -> tuple[Tensor, ...]:
        result = score(hidden, head, microbatch, kinds, coefficients=coefficients, chunk_bytes=1500)
        total = sum(known[kind] @ getattr(result, kind.value) for kind in kinds)
        return torch.autograd.grad(total, leaves(hidden, head))

    for a, b in zip(gradients(known), gradients(None), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def test_a_loss_that_declares_wrong_coefficients_is_caught(microbatch):
    head, hidden = make_head(frozen=False, bias=False), make_hidden(microbatch)
    ones = torch.ones(len(microbatch.targets), dtype=torch.float64)
    result = score(hidden, head, microbatch, [Score.LOGPROB], coefficients={Score.LOGPROB: ones})
    with pytest.raises(RuntimeError, match="declared coefficients"):
        (2 * result.logprob).sum().backward()


def test_a_uniform_model_by_hand(microbatch):
    """Logits of zero: log p = -log V, entropy = log V, log Z = log V."""
    hidden = torch.zeros(len(microbatch.tokens), HIDDEN)
    result = score(hidden, Head(torch.ones(VOCABULARY, HIDDEN)), microbatch, EVERY)
    log_v = torch.full((len(microbatch.targets),), float(VOCABULARY)).log()
    for value, sign in (
        (result.logprob, -1),
        (result.entropy, 1),
        (result.log_partition, 1),
        (result.mean_logprob, -1),
    ):
        assert torch.allclose(value, sign * log_v)


def test_scores_of_narrow_weights_accumulate_in_float32(microbatch):
    """bfloat16 states and weights: as exact as float32 arithmetic on the same numbers."""
    generator = torch.Generator().manual_seed(8)
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator).bfloat16()
    hidden = torch.randn(len(microbatch.tokens), HIDDEN, generator=generator).bfloat16()
    narrow = score(hidden, Head(weight), microbatch, [Score.LOGPROB]).logprob
    wide = direct(hidden.double(), Head(weight.double()), microbatch, 1.0).logprob
    assert narrow.dtype == torch.float32
    assert torch.allclose(narrow.double(), wide, rtol=0, atol=1e-5)


def test_rows_that_train_learn_alone(microbatch):
    """Also where nothing before the head learns, and without gradients the values are the same."""
    head = with_new_rows(make_head(frozen=True, bias=False), microbatch)
    hidden = make_hidden(microbatch).detach()
    result = score(hidden, head, microbatch, EVERY)
    wanted = torch.autograd.grad(direct(hidden, head, microbatch, 1.0).logprob.sum(), head.new_rows.values)
    [got] = torch.autograd.grad(result.logprob.sum(), head.new_rows.values)
    assert torch.allclose(got, wanted[0], rtol=1e-12, atol=1e-13)
    with torch.no_grad():
        again = score(hidden, head, microbatch, EVERY)
    assert torch.equal(again.logprob, result.logprob)


@pytest.mark.parametrize("rows", [False, True], ids=["frozen", "rows"])
def test_nothing_of_vocabulary_size_is_kept_for_a_frozen_head(microbatch, rows):
    """Autograd saves at most [S, H] elements in addition to the head."""
    head, hidden = make_head(frozen=True, bias=False), make_hidden(microbatch)
    if rows:
        head = with_new_rows(head, microbatch)
    saved: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() != head.weight.data_ptr():
            saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        score(hidden, head, microbatch, EVERY)
    assert max(saved) <= max(len(microbatch.targets), len(microbatch.tokens)) * HIDDEN


@pytest.mark.parametrize("kinds", [[Score.LOGPROB], [Score.LOGPROB, Score.LOG_PARTITION], EVERY])
def test_improbable_targets_and_large_logits(microbatch, kinds):
    """A target whose probability is 0 in float32 has a log-probability all the same, and large logits do not overflow:
    logits 3000 and 0 of a vocabulary, whose log-partition is 3000 and whose other tokens have log p = −3000."""
    weight = torch.zeros(VOCABULARY, HIDDEN)
    weight[VOCABULARY - 1] = 3000.0
    hidden = torch.zeros(len(microbatch.tokens), HIDDEN)
    hidden[:, 0] = 1.0
    hidden.requires_grad_()
    result = score(hidden, Head(weight.requires_grad_()), microbatch, kinds)
    likely = microbatch.targets == VOCABULARY - 1
    assert torch.equal(result.logprob, torch.where(likely, 0.0, -3000.0))
    if Score.LOG_PARTITION in kinds:
        assert torch.equal(result.log_partition, torch.full((len(likely),), 3000.0))
    result.logprob.sum().backward()
    assert weight.grad.isfinite().all()
    assert weight.grad[VOCABULARY - 1, 0] == -float((~likely).sum())
