"""Divergences from a teacher: exact values and gradients over an enumerated vocabulary, on every route, in chunks."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.losses.distillation.settings import DivergenceOptions
from burnish.model import top_k
from burnish.model.divergence import Comparison, FullVocabulary, TopK
from burnish.model.head import Head
from burnish.model.scoring import score
from burnish.model.top_k import top_tokens
from burnish.packing import pack
from burnish.types import Microbatch, Score
from tests.conftest import VOCABULARY, make_groups

HIDDEN, OTHER = 7, 5
KINDS = [("reverse_kl", 0.5), ("forward_kl", 0.5), ("jsd", 0.1), ("jsd", 0.5), ("jsd", 0.9)]
TEMPERATURES = [1.0, 1.7]
COMPARING = [Score.DIVERGENCE, Score.AGREEMENT]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def packed() -> Microbatch:
    [microbatch] = pack(make_groups([(5, [4, 3, 6]), (2, [5])], holes=True), 100)
    return microbatch


def with_states(microbatch: Microbatch, size: int = OTHER) -> Microbatch:
    return replace(microbatch, teacher_states=random(len(microbatch.targets), size, seed=3))


def with_top_k(microbatch: Microbatch, head: Head, k: int, temperature: float) -> Microbatch:
    top = top_tokens(microbatch.teacher_states, head, k, temperature=temperature)
    return replace(
        microbatch,
        teacher_topk_tokens=top.tokens,
        teacher_topk_logprobs=top.logprobs,
        teacher_tail_logprobs=top.tail,
    )


def teacher_head(size: int = VOCABULARY, hidden: int = OTHER, seed: int = 4) -> Head:
    return Head(random(size, hidden, seed=seed), random(size, seed=seed + 1))


def model_hidden(microbatch: Microbatch) -> Tensor:
    return random(len(microbatch.tokens), HIDDEN, seed=6).requires_grad_()


def model_head(frozen: bool) -> Head:
    weight = random(VOCABULARY, HIDDEN, seed=7).requires_grad_(not frozen)
    return Head(weight, random(VOCABULARY, seed=8).requires_grad_(not frozen))


def direct(options: DivergenceOptions, student: Tensor, teacher: Tensor) -> Tensor:
    """[m] of probabilities [m, B], from the definitions."""
    if options.kind == "reverse_kl":
        return (student * (student / teacher).log()).sum(1)
    if options.kind == "forward_kl":
        return (teacher * (teacher / student).log()).sum(1)
    beta = options.jsd_beta
    mixed = beta * teacher + (1 - beta) * student
    to_mixed = (student * (student / mixed).log()).sum(1)
    return beta * (teacher * (teacher / mixed).log()).sum(1) + (1 - beta) * to_mixed


def distributions(microbatch: Microbatch, hidden: Tensor, head: Head, teacher: Head, temperature: float):
    own = torch.softmax((hidden[microbatch.predictor_positions] @ head.weight.T + head.bias) / temperature, dim=1)
    theirs = torch.softmax((microbatch.teacher_states @ teacher.weight.T + teacher.bias) / temperature, dim=1)
    return own, theirs


def in_buckets(probabilities: Tensor, tokens: Tensor) -> Tensor:
    chosen = probabilities.gather(1, tokens)
    return torch.cat([chosen, 1 - chosen.sum(1, keepdim=True)], dim=1)


def gradients(total: Tensor, hidden: Tensor, head: Head) -> list[Tensor]:
    leaves = [t for t in (hidden, head.weight, head.bias) if t.requires_grad]
    return list(torch.autograd.grad(total, leaves))


def assert_equal(microbatch: Microbatch, teacher: Comparison, wanted, *, frozen: bool, chunk: int, temperature: float):
    """Value, gradient and agreement of scoring are those of `wanted`, a function of (hidden, head) → [S]."""
    head, hidden = model_head(frozen), model_hidden(microbatch)
    settings = {"temperature": temperature, "chunk_bytes": chunk * VOCABULARY * 8, "comparison": teacher}
    mine = score(hidden, head, microbatch, [*COMPARING, Score.ENTROPY], **settings)
    theirs, direction = wanted(hidden, head), random(len(microbatch.targets), seed=9)
    assert torch.allclose(mine.divergence, theirs, rtol=1e-12, atol=1e-13)
    got = gradients(direction @ mine.divergence, hidden, head)
    known = score(hidden, head, microbatch, [Score.DIVERGENCE], coefficients={Score.DIVERGENCE: direction}, **settings)
    at_once = gradients(direction @ known.divergence, hidden, head)
    for a, b, c in zip(got, gradients(direction @ theirs, hidden, head), at_once, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)
        assert torch.allclose(c, b, rtol=1e-10, atol=1e-12)
    return mine


@pytest.mark.parametrize(("kind", "beta"), KINDS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_the_whole_vocabulary(packed, kind, beta, temperature, frozen, chunk):
    options, head = DivergenceOptions(kind, "full", beta), teacher_head()
    microbatch = with_states(packed)

    def wanted(hidden, own):
        return direct(options, *distributions(microbatch, hidden, own, head, temperature))

    teacher = FullVocabulary(options, [lambda: head])
    mine = assert_equal(microbatch, teacher, wanted, frozen=frozen, chunk=chunk, temperature=temperature)
    own, theirs = distributions(microbatch, model_hidden(microbatch), model_head(True), head, temperature)
    assert torch.equal(mine.agreement, (own.argmax(1) == theirs.argmax(1)).double())


@pytest.mark.parametrize(("kind", "beta"), KINDS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("k", [1, 3, VOCABULARY - 1])
def test_top_k_with_its_tail(packed, kind, beta, temperature, frozen, k):
    options, head = DivergenceOptions(kind, "top_k", beta), teacher_head()
    microbatch = with_top_k(with_states(packed), head, k, temperature)

    def wanted(hidden, own):
        both = distributions(microbatch, hidden, own, head, temperature)
        return direct(options, *(in_buckets(each, microbatch.teacher_topk_tokens) for each in both))

    assert_equal(microbatch, TopK(options), wanted, frozen=frozen, chunk=4, temperature=temperature)


@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_top_k_of_the_whole_vocabulary_is_the_whole_vocabulary(packed, kind, beta):
    """k = V: the tail is empty on both sides, and adds exactly nothing."""
    head, options = teacher_head(), DivergenceOptions(kind, "full", beta)
    microbatch = with_top_k(with_states(packed), head, VOCABULARY, 1.0)
    assert torch.isinf(microbatch.teacher_tail_logprobs).all()
    own, hidden = model_head(False), model_hidden(microbatch)
    full = score(hidden, own, microbatch, COMPARING, comparison=FullVocabulary(options, [lambda: head]))
    top = score(hidden, own, microbatch, COMPARING, comparison=TopK(replace(options, support="top_k")))
    assert torch.allclose(full.divergence, top.divergence, rtol=1e-12, atol=1e-14)
    assert torch.equal(full.agreement, top.agreement)
    for a, b in zip(
        gradients(full.divergence.sum(), hidden, own), gradients(top.divergence.sum(), hidden, own), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13)


def test_the_gradient_of_top_k_is_that_of_the_stop_gradient_form(packed):
    """Σ_b sg[s_b (log s_b − log t_b)] log s_b over the k + 1 buckets: nothing is lost, since they are a partition."""
    options, teacher = DivergenceOptions("reverse_kl", "top_k"), teacher_head()
    microbatch = with_top_k(with_states(packed), teacher, 4, 1.0)
    head, hidden = model_head(False), model_hidden(microbatch)
    mine = score(hidden, head, microbatch, [Score.DIVERGENCE], comparison=TopK(options))
    own, theirs = distributions(microbatch, hidden, head, teacher, 1.0)
    own, theirs = (in_buckets(each, microbatch.teacher_topk_tokens) for each in (own, theirs))
    stopped = ((own * (own / theirs).log()).detach() * own.log()).sum(1)
    for a, b in zip(
        gradients(mine.divergence.sum(), hidden, head), gradients(stopped.sum(), hidden, head), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("support", ["full", "top_k"])
@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_the_teacher_itself_is_at_0(packed, support, kind, beta):
    """Equal distributions: value and gradient vanish, and the most probable tokens agree."""
    head = model_head(False)
    microbatch = replace(packed, teacher_states=model_hidden(packed).detach()[packed.predictor_positions])
    frozen = Head(head.weight.detach(), head.bias.detach())
    microbatch = with_top_k(microbatch, frozen, 3, 1.0)
    options = DivergenceOptions(kind, support, beta)
    teacher = FullVocabulary(options, [lambda: frozen]) if support == "full" else TopK(options)
    hidden = model_hidden(packed)
    mine = score(hidden, head, microbatch, COMPARING, comparison=teacher)
    assert torch.allclose(mine.divergence, torch.zeros_like(mine.divergence), atol=1e-14)
    assert bool((mine.agreement == 1).all())
    assert all(g.abs().max() < 1e-13 for g in gradients(mine.divergence.sum(), hidden, head))


@pytest.mark.parametrize("size", [VOCABULARY + 6, VOCABULARY - 3])
@pytest.mark.parametrize(("kind", "beta"), KINDS)
def test_padded_vocabularies_are_compared_on_their_common_tokens(packed, size, kind, beta):
    common, options, head = min(VOCABULARY, size), DivergenceOptions(kind, "full", beta), teacher_head(size)
    microbatch = with_states(packed)

    def wanted(hidden, own):
        student, teacher = distributions(microbatch, hidden, own, head, 1.0)
        cut = [each[:, :common] / each[:, :common].sum(1, keepdim=True) for each in (student, teacher)]
        return direct(options, *cut)

    assert_equal(microbatch, FullVocabulary(options, [lambda: head]), wanted, frozen=False, chunk=3, temperature=1.0)


def test_each_token_has_its_teacher(packed):
    """Teachers of different width: the states of the narrower one are filled up."""
    options, heads = DivergenceOptions("jsd", "full", 0.3), [teacher_head(), teacher_head(hidden=OTHER - 2, seed=20)]
    states = random(len(packed.targets), OTHER, seed=3)
    index = torch.arange(len(packed.targets)) % 2
    microbatch = replace(packed, teacher_states=states, teacher_index=index)

    def wanted(hidden, own):
        apart = []
        for head in heads:
            narrow = replace(microbatch, teacher_states=states[:, : head.weight.shape[1]])
            apart.append(direct(options, *distributions(narrow, hidden, own, head, 1.0)))
        return torch.where(index == 0, *apart)

    teacher = FullVocabulary(options, [lambda: heads[0], lambda: heads[1]])
    assert_equal(microbatch, teacher, wanted, frozen=False, chunk=4, temperature=1.0)


def test_by_hand():
    """s = (1/2, 1/2), t = (1/4, 3/4): KL(s ‖ t) = log 2 − (log 3) / 2; dD/dy = s (g − Σ s g), g = (log 2, log 2/3)."""
    [microbatch] = pack(make_groups([(1, [1])]), 100)
    microbatch = replace(
        microbatch, targets=torch.zeros(1, dtype=torch.int64), teacher_states=torch.ones(1, 1, dtype=torch.float64)
    )
    hidden = torch.ones(len(microbatch.tokens), 1, dtype=torch.float64)
    own = Head(torch.zeros(2, 1, dtype=torch.float64).requires_grad_())
    other = Head(torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64))
    options = DivergenceOptions("reverse_kl", "full")
    mine = score(hidden, own, microbatch, [Score.DIVERGENCE], comparison=FullVocabulary(options, [lambda: other]))
    assert float(mine.divergence.detach()) == pytest.approx(math.log(2) - math.log(3) / 2, abs=1e-14)
    [gradient] = torch.autograd.grad(mine.divergence.sum(), own.weight)
    assert torch.allclose(gradient[:, 0], torch.tensor([math.log(3) / 4, -math.log(3) / 4], dtype=torch.float64))


def test_jsd_tends_to_both_kl_divergences(packed):
    head, microbatch = teacher_head(), with_states(packed)

    def divergence(kind: str, beta: float) -> Tensor:
        teacher = FullVocabulary(DivergenceOptions(kind, "full", beta), [lambda: head])
        hidden, own = model_hidden(microbatch), model_head(True)
        return score(hidden, own, microbatch, [Score.DIVERGENCE], comparison=teacher).divergence.detach()

    assert torch.allclose(divergence("jsd", 1e-9) / 1e-9, divergence("forward_kl", 0.5), rtol=1e-3)
    assert torch.allclose(divergence("jsd", 1 - 1e-9) / 1e-9, divergence("reverse_kl", 0.5), rtol=1e-3)


@pytest.mark.parametrize("support", ["full", "top_k"])
@pytest.mark.parametrize("kind", ["reverse_kl", "forward_kl", "jsd"])
def test_extreme_distributions_stay_finite(packed, support, kind):
    """float32 logits of ±100: probabilities of 0 give finite values and gradients."""
    head = Head(100 * teacher_head().weight.float())
    microbatch = replace(packed, teacher_states=random(len(packed.targets), OTHER, seed=3).float())
    microbatch = with_top_k(microbatch, head, 2, 1.0)
    options = DivergenceOptions(kind, support)
    teacher = FullVocabulary(options, [lambda: head]) if support == "full" else TopK(options)
    hidden = (100 * model_hidden(packed).detach().float()).requires_grad_()
    own = Head(model_head(True).weight.float().requires_grad_())
    mine = score(hidden, own, microbatch, [Score.DIVERGENCE], comparison=teacher)
    assert bool(mine.divergence.isfinite().all())
    assert all(bool(g.isfinite().all()) for g in gradients(mine.divergence.sum(), hidden, replace(own, bias=hidden)))


def test_top_tokens_in_chunks(monkeypatch):
    """The k most probable in their order, with the mass of the rest, whatever the chunks."""
    states, head = random(9, OTHER, seed=3), teacher_head()
    whole = top_tokens(states, head, 4, temperature=0.7)
    logprobs = torch.log_softmax((states @ head.weight.T + head.bias) / 0.7, dim=1)
    ordered = logprobs.sort(dim=1, descending=True)
    assert torch.equal(whole.tokens, ordered.indices[:, :4])
    assert torch.allclose(whole.logprobs, ordered.values[:, :4])
    assert torch.allclose(whole.tail, torch.logsumexp(ordered.values[:, 4:], dim=1))
    monkeypatch.setitem(top_k.CHUNK_BYTES, "cpu", 2 * VOCABULARY * 8)
    chunked = top_tokens(states, head, 4, temperature=0.7)
    assert torch.equal(chunked.tokens, whole.tokens)
    assert torch.allclose(chunked.logprobs, whole.logprobs, rtol=1e-13)
    assert torch.allclose(chunked.tail, whole.tail, rtol=1e-13)
