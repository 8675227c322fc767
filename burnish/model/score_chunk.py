"""Chunk of scored tokens: their distributions, scores, and the gradients of the scores by the logits. Used by
`scoring`, whose table says what each score is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.model.divergence import Compared
from burnish.parallel.columns import Columns
from burnish.types import TEACHER_SCORES, Score

DIFFERENTIABLE = frozenset(Score) - TEACHER_SCORES
"""Scores whose gradients are sums of the terms in the table of `scoring`."""


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """Chunk of scored tokens with their distributions: the only tensors of shape [chunk, V]."""

    rows: slice
    """Indices of the chunk among the scored tokens."""
    source: Tensor
    """[chunk, H], in the model's type"""
    targets: Tensor
    """[chunk]"""
    probabilities: Tensor
    """[chunk, V]; `product_gradient` overwrites it with the gradient."""
    logprobs: Tensor | None
    """[chunk, V]; None: no score needs them, and the probabilities have overwritten the logits."""
    logprob: Tensor
    """[chunk], of the targets"""
    log_partition: Tensor
    """[chunk]"""
    capped: Tensor | None
    """[chunk, V] tanh(x / c) of a soft-capped head; None: no cap."""
    compared: Compared | None
    """The teacher's side; None: no score compares."""
    slope: float
    """d(logit)/d(W h + b) without the soft-cap: scale / temperature."""
    columns: Columns | None = None
    """The tokens of V that are here; None: all."""

    def values(self, order: tuple[Score, ...]) -> Tensor:
        """[scores, chunk]"""
        return torch.stack([self._value(kind) for kind in order])

    def _value(self, kind: Score) -> Tensor:
        if kind is Score.LOGPROB:
            return self.logprob
        if kind is Score.LOG_PARTITION:
            return self.log_partition
        assert self.logprobs is not None, "the logits know which scores look at whole rows"
        if kind is Score.ENTROPY:
            return self._over_all(-(self.probabilities * self.logprobs).sum(dim=1))
        if kind is Score.LOG_COLLISION:
            collision = torch.logsumexp(2 * self.logprobs, dim=1)
            return collision if self.columns is None else self.columns.logsumexp(collision)
        if kind in TEACHER_SCORES:
            assert self.compared is not None, "a model that is compared has a teacher"
            if kind is Score.AGREEMENT:
                return self.compared.agreement(self.logprobs)
            return self.compared.value(self.probabilities, self.logprobs)
        return self.logprobs.mean(dim=1) if self.columns is None else self._over_all(self.logprobs.sum(dim=1)) / self._v

    @property
    def _v(self) -> int:
        return self.probabilities.shape[1] if self.columns is None else self.columns.vocabulary

    def _over_all(self, sums: Tensor) -> Tensor:
        """Sums over the whole vocabulary, from those over the tokens that are here."""
        return sums if self.columns is None else self.columns.sum(sums)

    def product_gradient(self, order: tuple[Score, ...], upstream: Tensor) -> Tensor:
        """[chunk, V]: Σ_k upstream[k] · d(score k)/d(W h + b); upstream is [scores, chunk].

        The gradient overwrites the probabilities, so it can be computed once per chunk.
        """
        given = dict(zip(order, upstream, strict=True))
        zero = torch.zeros_like(self.log_partition)
        onehot, partition = given.get(Score.LOGPROB, zero), given.get(Score.LOG_PARTITION, zero)
        mean, entropy = given.get(Score.MEAN_LOGPROB, zero), given.get(Score.ENTROPY)
        factor = (partition - onehot - mean)[:, None]
        if entropy is not None:
            assert self.logprobs is not None, "the logits know which scores look at whole rows"
            value = self._value(Score.ENTROPY)
            factor = factor - entropy[:, None] * (self.logprobs + value[:, None])
        if Score.LOG_COLLISION in given:
            assert self.logprobs is not None, "the logits know which scores look at whole rows"
            collision = given[Score.LOG_COLLISION][:, None]
            value = self._value(Score.LOG_COLLISION)
            factor = factor + 2 * collision * torch.expm1(self.logprobs - value[:, None])
        divergence = given.get(Score.DIVERGENCE)
        from_teacher = None if divergence is None else self._from_teacher(divergence)
        if from_teacher is not None and not DIFFERENTIABLE & set(order):
            return self._through_cap(from_teacher)
        gradient = self.probabilities.mul_(factor)
        if from_teacher is not None:
            gradient += from_teacher
        if Score.MEAN_LOGPROB in given:
            gradient += mean[:, None] / self._v
        targets = self.targets
        if self.columns is not None:
            targets, own = self.columns.own(targets)
            onehot = torch.where(own, onehot, 0.0)
        # One entry per token: indexing is deterministic on every device, a scatter of sums need not be.
        gradient[torch.arange(len(gradient), device=gradient.device), targets] += onehot
        return self._through_cap(gradient)

    def _through_cap(self, gradient: Tensor) -> Tensor:
        """From the logits to W h + b, in place."""
        if self.capped is not None:
            gradient *= 1 - self.capped**2
        return gradient if self.slope == 1.0 else gradient.mul_(self.slope)

    def _from_teacher(self, upstream: Tensor) -> Tensor:
        """[chunk, V], of the divergence."""
        assert self.compared is not None, "a model that is compared has a teacher"
        assert self.logprobs is not None, "the logits know which scores look at whole rows"
        return self.compared.gradient(self.probabilities, self.logprobs, upstream)
