r"""Divergence of a model's next-token distributions from a teacher's, chunk by chunk.

Used by `scoring`, which has the model's log-probabilities of a chunk of tokens; here are the teacher's, and value and
gradient of the divergence. Nothing of the size [tokens, vocabulary] outlives a chunk. With s = softmax(y) of the model,
t of the teacher, and D a function of s:

    dD/dy_j = s_j (g_j − Σ_k s_k g_k),   g = dD/ds

===========  ============================================  =====================================
divergence   value                                         g
===========  ============================================  =====================================
reverse_kl   Σ s (log s − log t)                           log s − log t
forward_kl   Σ t (log t − log s)                           − t / s, so dD/dy = s − t
jsd          β Σ t log(t / m) + (1 − β) Σ s log(s / m)     (1 − β) (log s − log m)
===========  ============================================  =====================================

(constants in g cancel; `other_vocabulary` is in `sorted_l1`). `full` compares the whole vocabularies. `top_k` compares
k + 1 buckets: the teacher's k most probable tokens, and all others together, whose masses are exact on both sides.
Since the buckets are a partition, the gradient of the reverse KL is that of its stop-gradient form,
Σ_b sg[s_b (log s_b − log t_b)] log s_b: no term is lost that a truncated sum would lose (Fu et al. 2026, arXiv
2603.25562, compare truncated supports). With k = V it is `full`.

The temperature divides the logits of both. Where the vocabularies differ in their padding, `full` compares the
distributions over the common tokens; with `top_k`, further rows of the student are in its tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from burnish.losses.distillation.settings import DivergenceOptions
from burnish.model.head import Head
from burnish.model.logits import HeadProduct
from burnish.model.sorted_l1 import sorted_l1
from burnish.streams import Streams

_ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-13}
"""Log-ratios, nats, that are rounding: their gradient is exactly 0, since an optimizer would normalize it."""
_LARGEST = 80.0
"""Bound of a log-ratio before its exponential, which multiplies a smaller number: e^80 is finite in float32."""


class Compared(Protocol):
    """The teacher's side of one chunk of m tokens."""

    def value(self, probabilities: Tensor, logprobs: Tensor) -> Tensor:
        """[m] nats, the divergence of the model's distributions [m, V]."""

    def gradient(self, probabilities: Tensor, logprobs: Tensor, upstream: Tensor) -> Tensor:
        """[m, V], the derivative of Σ upstream · `value` (upstream [m]) with respect to the model's logits, which are
        divided by the temperature."""

    def agreement(self, logprobs: Tensor) -> Tensor:
        """[m] 1 where the most probable token is the teacher's, otherwise 0."""


Side = Callable[[slice], Compared]
"""Indices of a chunk among the scored tokens → the teacher's side."""


class Comparison(Protocol):
    """Comparison of a model with a teacher, whose side is in streams of the scored tokens."""

    def side(self, streams: Streams, temperature: float) -> Side:
        """The teacher's side of the scored tokens, at this temperature."""


@dataclass(frozen=True, eq=False, slots=True)
class FullVocabulary:
    """Comparison over the whole vocabulary, with the stream `teacher_states`."""

    options: DivergenceOptions
    heads: Sequence[Callable[[], Head]]
    """Output heads of the teachers as they are now, in the order of `teacher_index`."""

    def side(self, streams: Streams, temperature: float) -> Side:
        products = [HeadProduct.frozen(head(), temperature) for head in self.heads]
        return lambda rows: _Full(self.options, _full_logprobs(products, streams, rows))


@dataclass(frozen=True, eq=False, slots=True)
class TopK:
    """Comparison on the teacher's top-k tokens, with the streams `teacher_topk_tokens`, `teacher_topk_logprobs` and
    `teacher_tail_logprobs`, which are at the temperature of the comparison."""

    options: DivergenceOptions

    def side(self, streams: Streams, temperature: float) -> Side:
        tokens, logprobs = streams.teacher_topk_tokens, streams.teacher_topk_logprobs
        tail = streams.teacher_tail_logprobs
        assert tokens is not None and logprobs is not None and tail is not None, "tokens have the teacher's top k"
        buckets = torch.cat([logprobs, tail[:, None]], dim=1)
        return lambda rows: _Buckets(self.options, tokens[rows], buckets[rows])


@dataclass(frozen=True, eq=False, slots=True)
class OtherVocabulary:
    """Comparison of sorted probabilities (ULD), by the stream `teacher_states` of a teacher of another vocabulary."""

    head: Callable[[], Head]
    """Output head of the teacher."""

    def side(self, streams: Streams, temperature: float) -> Side:
        product = HeadProduct.frozen(self.head(), temperature)
        return lambda rows: _Sorted(_full_logprobs([product], streams, rows).exp())


@dataclass(frozen=True, eq=False, slots=True)
class _Sorted:
    """Probabilities of a teacher with another vocabulary."""

    teacher: Tensor
    """[m, V_t]"""

    def value(self, probabilities: Tensor, logprobs: Tensor) -> Tensor:
        return sorted_l1(probabilities, self.teacher.to(probabilities.dtype))[0]

    def gradient(self, probabilities: Tensor, logprobs: Tensor, upstream: Tensor) -> Tensor:
        slope = sorted_l1(probabilities, self.teacher.to(probabilities.dtype))[1]
        return probabilities * (slope - (probabilities * slope).sum(dim=1, keepdim=True)) * upstream[:, None]

    def agreement(self, logprobs: Tensor) -> Tensor:
        raise AssertionError("tokens of two vocabularies do not agree or disagree")


@dataclass(eq=False, slots=True)
class _Full:
    """Log-probabilities of the teacher over its whole vocabulary."""

    options: DivergenceOptions
    teacher: Tensor
    """[m, V_t] nats, finite."""
    _kept: _Sums | None = None
    """What `value` and `gradient` both need."""

    def value(self, probabilities: Tensor, logprobs: Tensor) -> Tensor:
        return self._sums(probabilities, logprobs).value

    def gradient(self, probabilities: Tensor, logprobs: Tensor, upstream: Tensor) -> Tensor:
        gradient = self._sums(probabilities, logprobs).gradient(upstream)
        self._kept = None  # the gradient has overwritten it
        if gradient.shape == logprobs.shape:
            return gradient
        whole = torch.zeros_like(logprobs)
        whole[:, : gradient.shape[1]] = gradient
        return whole

    def agreement(self, logprobs: Tensor) -> Tensor:
        student, teacher = self._common(logprobs)
        return (student.argmax(dim=1) == teacher.argmax(dim=1)).to(logprobs.dtype)

    def _sums(self, probabilities: Tensor, logprobs: Tensor) -> _Sums:
        if self._kept is None:
            student, teacher = self._common(logprobs)
            own = probabilities if student is logprobs else student.exp()
            self._kept = _Sums.of(self.options, own, student, teacher)
        return self._kept

    def _common(self, logprobs: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of both over their common tokens."""
        size = min(logprobs.shape[1], self.teacher.shape[1])
        return _first(logprobs, size), _first(self.teacher.to(logprobs.dtype), size)


@dataclass(frozen=True, eq=False, slots=True)
class _Sums:
    """Divergence of whole distributions [m, B], in few passes, since a chunk is larger than a core's cache."""

    own: Tensor
    """[m, B] s"""
    slope: Tensor
    """[m, B] s g; of forward_kl s − t."""
    mean: Tensor | None
    """[m] Σ s g; None: the slope is the gradient."""
    value: Tensor
    """[m]"""
    apart: Tensor
    """[m] bool; False: the distributions differ by rounding."""

    @classmethod
    def of(cls, options: DivergenceOptions, own: Tensor, student: Tensor, teacher: Tensor) -> _Sums:
        ratio = student - teacher
        apart = torch.linalg.vector_norm(ratio, torch.inf, dim=1) > _ROUNDING[ratio.dtype]
        if options.kind == "reverse_kl":
            value = ratio.mul_(own).sum(dim=1)
            return cls(own, ratio, value, value, apart)
        given = teacher.exp()
        if options.kind == "forward_kl":
            return cls(own, own - given, None, -ratio.mul_(given).sum(dim=1), apart)
        beta = options.jsd_beta
        mixed = torch.lerp(own, given, beta).clamp_(min=torch.finfo(own.dtype).tiny).log_()
        of_teacher = (teacher - mixed).mul_(given).sum(dim=1)
        slope = torch.sub(student, mixed, out=mixed).mul_(own)
        mean = slope.sum(dim=1)
        return cls(own, slope.mul_(1 - beta), (1 - beta) * mean, beta * of_teacher + (1 - beta) * mean, apart)

    def gradient(self, upstream: Tensor) -> Tensor:
        """[m, B], in the place of the slope."""
        factor = (upstream * self.apart)[:, None]
        if self.mean is None:
            return self.slope.mul_(factor)
        return self.slope.addcmul_(self.own, self.mean[:, None], value=-1).mul_(factor)


@dataclass(frozen=True, eq=False, slots=True)
class _Buckets:
    """Log-probabilities of the teacher's top k and of all other tokens together."""

    options: DivergenceOptions
    tokens: Tensor
    """[m, K], most probable first."""
    teacher: Tensor
    """[m, K + 1] nats; the last one is the tail, −inf if k is the whole vocabulary."""

    def value(self, probabilities: Tensor, logprobs: Tensor) -> Tensor:
        student, teacher = self._student(probabilities, logprobs), self.teacher.to(logprobs.dtype)
        return _divergence(self.options, student.exp(), student, teacher)

    def gradient(self, probabilities: Tensor, logprobs: Tensor, upstream: Tensor) -> Tensor:
        student, teacher = self._student(probabilities, logprobs), self.teacher.to(logprobs.dtype)
        of_buckets = _slope(self.options, student.exp(), student, teacher) * upstream[:, None]
        # A token of the tail has its share of the tail's gradient.
        share = _ratio(of_buckets[:, -1], student[:, -1])
        gradient = probabilities * share[:, None]
        return gradient.scatter_(1, self.tokens, of_buckets[:, :-1])

    def agreement(self, logprobs: Tensor) -> Tensor:
        return (logprobs.argmax(dim=1) == self.tokens[:, 0]).to(logprobs.dtype)

    def _student(self, probabilities: Tensor, logprobs: Tensor) -> Tensor:
        """[m, K + 1] log-probabilities of the model in the same buckets. The tail is a sum, since 1 − Σ s_k would be
        rounding error where it is small."""
        tail = probabilities.scatter(1, self.tokens, 0.0).sum(dim=1, keepdim=True)
        return torch.cat([logprobs.gather(1, self.tokens), tail.log()], dim=1)


def _full_logprobs(products: Sequence[HeadProduct], streams: Streams, rows: slice) -> Tensor:
    """[m, V] log-probabilities of each token's teacher, over the tokens that all teachers have."""
    assert streams.teacher_states is not None, "the whole vocabulary needs the teacher's hidden states"
    states, index = streams.teacher_states[rows], streams.teacher_index
    if len(products) == 1:
        return _log_softmax(_logits(products[0], states))
    assert index is not None, "tokens of several teachers say whose they are"
    size = min(product.vocabulary for product in products)
    logits = states.new_zeros((len(states), size), dtype=products[0].matrix.dtype)
    for number, product in enumerate(products):
        own = (index[rows] == number).nonzero()[:, 0]
        if len(own):  # the states may be narrower than those of a teacher that has none of the tokens
            logits[own] = _logits(product, states[own])[:, :size]
    return _log_softmax(logits)


def _log_softmax(logits: Tensor) -> Tensor:
    """Finite, also where the teacher excludes tokens by logits of −inf."""
    return torch.log_softmax(logits.clamp_(min=torch.finfo(logits.dtype).min / 4), dim=1)


def _logits(product: HeadProduct, states: Tensor) -> Tensor:
    """[m, V] of states [m, H], or of the first H columns of wider rows, which states of other teachers fill."""
    given = product.matrix.given
    return product.logits(states[:, : given.shape[1]].to(given.dtype))[0]


def _first(logprobs: Tensor, size: int) -> Tensor:
    """The first `size` columns, as a distribution."""
    if logprobs.shape[1] == size:
        return logprobs
    part = logprobs[:, :size]
    return part - torch.logsumexp(part, dim=1, keepdim=True)


def _divergence(options: DivergenceOptions, own: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    """[m] divergence of distributions [m, B], by their log-probabilities; a bucket that both lack adds 0."""
    if options.kind == "reverse_kl":
        return _expected(own, student - teacher)
    if options.kind == "forward_kl":
        return _expected(teacher.exp(), teacher - student)
    mixed, beta = _mixture(options, student, teacher), options.jsd_beta
    return beta * _expected(teacher.exp(), teacher - mixed) + (1 - beta) * _expected(own, student - mixed)


def _slope(options: DivergenceOptions, own: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    """[m, B] s (g − Σ s g): the derivative with respect to the logits of the buckets."""
    ratio = student - teacher
    equal = ratio.abs() <= _ROUNDING[ratio.dtype]
    if options.kind == "forward_kl":
        return (own - teacher.exp()).masked_fill_(equal, 0.0)
    if options.kind == "jsd":
        ratio = (student - _mixture(options, student, teacher)).mul_(1 - options.jsd_beta)
    weighted = _product(own, ratio.masked_fill_(equal, 0.0))
    return weighted - own * weighted.sum(dim=1, keepdim=True)


def _mixture(options: DivergenceOptions, student: Tensor, teacher: Tensor) -> Tensor:
    """[m, B] log(β t + (1 − β) s)"""
    log_beta = torch.tensor([options.jsd_beta, 1 - options.jsd_beta], dtype=torch.float64).log().tolist()
    return torch.logaddexp(teacher + log_beta[0], student + log_beta[1])


def _expected(probabilities: Tensor, values: Tensor) -> Tensor:
    return _product(probabilities, values).sum(dim=1)


def _product(probabilities: Tensor, values: Tensor) -> Tensor:
    """p · v, and 0 where p is 0: the limit of p log p, where v may be infinite or (both buckets empty) undefined."""
    return torch.where(probabilities > 0, probabilities * values, 0.0)


def _ratio(gradient: Tensor, log_mass: Tensor) -> Tensor:
    """[m] gradient / mass; 0 where the mass is 0."""
    return gradient * torch.exp((-log_mass).clamp(max=_LARGEST)) * (log_mass > -torch.inf)
