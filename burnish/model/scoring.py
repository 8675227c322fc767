"""Scoring: hidden states → numbers per scored token. The only file where a tensor has a vocabulary axis.

Stands between packing and loss. Never builds [scored, vocabulary]: it goes through the scored tokens in chunks, and
what it keeps for the backward has no vocabulary axis. Every score is a function of one row of logits z, p = softmax z:

=============  ==========================  ====================================================
score          value                       ds/dz
=============  ==========================  ====================================================
logprob        z[target] − log Σ exp z     onehot − p
entropy        −Σ p log p                  −p · (log p + entropy)
log_partition  log Σ exp z                 p
mean_logprob   mean(z) − log Σ exp z       1/V − p
=============  ==========================  ====================================================

so for upstream gradients the row gradient is always  a·onehot + b·p + c·p·log p + d  with four numbers per row. Three
ways to the gradient, chosen by construction (`_Plan`):

- *frozen head* (LoRA): ds/dh is kept per score, [S, H]; the backward multiplies by the upstream number, no recompute.
- *known upstream* (plain likelihood: the loss declares its coefficients): both gradients are made in the forward.
- otherwise the backward computes the logits of a chunk again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.model.head import Head, accumulation_dtype
from burnish.types import Microbatch, Score, TokenScores

CHUNK_BYTES = 16 * 2**20
"""Size of one chunk of logits. Small enough for a CPU's cache, large enough to keep a GPU busy."""


def score(
    hidden: Tensor,
    head: Head,
    microbatch: Microbatch,
    needs: Collection[Score],
    *,
    temperature: float = 1.0,
    coefficients: Mapping[Score, Tensor] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> TokenScores:
    """Scores the microbatch's tokens.

    Args:
        hidden: [N, H] last hidden states of the packed rows.
        head: the output head.
        microbatch: which rows predict which targets.
        needs: the scores to compute; others are None in the result.
        temperature: divides the logits; the one with which the responses were sampled.
        coefficients: [S] per needed score, the upstream gradient of a linear loss if it is known beforehand; spares
            the recomputation for a trained head. The backward asserts that what arrives is what was declared.
        chunk_bytes: memory for one chunk of logits.

    Returns:
        [S] per needed score, float32 (float64 for float64 hidden states).
    """
    order = tuple(kind for kind in Score if kind in needs)
    source = _Gather.apply(hidden, microbatch.rows, microbatch.rounds)
    plan = _plan(source, head, order, coefficients)
    stacked = _LinearScores.apply(
        source, head.weight, head.bias, microbatch.targets, head, temperature, chunk_bytes, plan
    )
    return TokenScores(**{kind.value: stacked[k] for k, kind in enumerate(order)})


@dataclass(frozen=True, eq=False, slots=True)
class _Plan:
    """Which scores, and what the forward prepares for the backward."""

    order: tuple[Score, ...]
    frozen: bool
    """True: keep ds/dh per score."""
    coefficients: Tensor | None
    """[scores, S] known upstream gradients; None: unknown."""


def _plan(source: Tensor, head: Head, order: tuple[Score, ...], coefficients: Mapping[Score, Tensor] | None) -> _Plan:
    trained_head = head.weight.requires_grad or (head.bias is not None and head.bias.requires_grad)
    grad = torch.is_grad_enabled() and (source.requires_grad or trained_head)
    known = None
    if grad and trained_head and coefficients is not None:
        known = torch.stack([coefficients[kind] for kind in order]).to(accumulation_dtype(source.dtype))
    return _Plan(order, frozen=grad and not trained_head, coefficients=known)


class _Gather(torch.autograd.Function):
    """hidden[rows], where rows repeat. The backward adds repeats round by round: each round is free of duplicates, so
    the order of additions is fixed on every device."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, rows: Tensor, rounds: tuple[Tensor, ...]) -> Tensor:
        ctx.save_for_backward(rows, *rounds)
        ctx.shape = hidden.shape
        return hidden.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, *rounds = ctx.saved_tensors
        total = gradient.new_zeros(ctx.shape)
        for indices in rounds:
            total.index_add_(0, rows[indices], gradient[indices])
        return total, None, None


@dataclass(frozen=True, eq=False, slots=True)
class _Chunk:
    """One chunk of scored tokens with its log-probabilities: the only place where [chunk, V] lives."""

    rows: slice
    source: Tensor
    """[chunk, H]"""
    targets: Tensor
    """[chunk]"""
    logprobs: Tensor
    """[chunk, V]"""
    log_partition: Tensor
    """[chunk]"""
    capped: Tensor | None
    """[chunk, V] tanh(x / c) of a soft-capped head; None: no cap."""
    temperature: float
    head: Head

    def values(self, order: tuple[Score, ...]) -> Tensor:
        """[scores, chunk]"""
        return torch.stack([self._value(kind) for kind in order])

    def _value(self, kind: Score) -> Tensor:
        if kind is Score.LOGPROB:
            return self.logprobs.gather(1, self.targets[:, None])[:, 0]
        if kind is Score.ENTROPY:
            return -(self.logprobs.exp() * self.logprobs).sum(dim=1)
        if kind is Score.LOG_PARTITION:
            return self.log_partition
        return self.logprobs.mean(dim=1)

    def logit_gradient(self, order: tuple[Score, ...], upstream: Tensor) -> Tensor:
        """[chunk, V]: Σ_k upstream[k] · d(score k)/d(W h + b); upstream is [scores, chunk]."""
        given = dict(zip(order, upstream, strict=True))
        zero = torch.zeros_like(self.log_partition)
        onehot, partition = given.get(Score.LOGPROB, zero), given.get(Score.LOG_PARTITION, zero)
        mean, entropy = given.get(Score.MEAN_LOGPROB, zero), given.get(Score.ENTROPY)
        probabilities = self.logprobs.exp()
        factor = (partition - onehot - mean)[:, None]
        if entropy is not None:
            value = -(probabilities * self.logprobs).sum(dim=1)
            factor = factor - entropy[:, None] * (self.logprobs + value[:, None])
        gradient = probabilities.mul_(factor)
        if Score.MEAN_LOGPROB in given:
            gradient += mean[:, None] / gradient.shape[1]
        # One entry a row: indexing is deterministic on every device, a scatter of sums need not be.
        gradient[torch.arange(len(gradient), device=gradient.device), self.targets] += onehot
        if self.capped is not None:
            gradient *= 1 - self.capped**2
        return gradient.mul_(self.head.scale / self.temperature)


def _chunks(
    source: Tensor, targets: Tensor, weight: Tensor, head: Head, temperature: float, chunk_bytes: int
) -> Iterator[_Chunk]:
    """Computes the logits chunk by chunk. `weight` is the head's, already in the type to accumulate in."""
    size = max(1, chunk_bytes // (weight.shape[0] * weight.element_size()))
    for start in range(0, len(source), size):
        rows = slice(start, min(start + size, len(source)))
        part = source[rows].to(weight.dtype)
        logits = part @ weight.T
        if head.bias is not None:
            logits += head.bias
        capped = None
        if head.scale != 1.0:
            logits *= head.scale
        if head.softcap is not None:
            capped = torch.tanh(logits.div_(head.softcap))
            logits = capped * head.softcap
        if temperature != 1.0:
            logits /= temperature
        log_partition = torch.logsumexp(logits, dim=1)
        logprobs = logits.sub_(log_partition[:, None])
        yield _Chunk(rows, part, targets[rows], logprobs, log_partition, capped, temperature, head)


class _LinearScores(torch.autograd.Function):
    """[S, H] hidden states → [scores, S], chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        head: Head,
        temperature: float,
        chunk_bytes: int,
        plan: _Plan,
    ) -> Tensor:
        dtype = accumulation_dtype(source.dtype)
        wide = weight.detach().to(dtype)
        values = source.new_empty((len(plan.order), len(source)), dtype=dtype)
        prepared = _prepare(plan, source, wide, bias)
        for chunk in _chunks(source, targets, wide, head, temperature, chunk_bytes):
            values[:, chunk.rows] = chunk.values(plan.order)
            if plan.frozen:
                for k, row in enumerate(torch.eye(len(plan.order), dtype=dtype, device=source.device)):
                    upstream = row[:, None].expand(-1, len(chunk.source))
                    prepared.source[k, chunk.rows] = chunk.logit_gradient(plan.order, upstream) @ wide
            elif plan.coefficients is not None:
                prepared.add(chunk, plan.coefficients[:, chunk.rows], plan.order, wide)
        ctx.plan, ctx.prepared = plan, prepared
        ctx.head, ctx.temperature, ctx.chunk_bytes = head, temperature, chunk_bytes
        ctx.save_for_backward(source, weight, bias, targets)
        return values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        source, weight, bias, targets = ctx.saved_tensors
        plan, prepared = ctx.plan, ctx.prepared
        if plan.frozen:
            gradient = torch.einsum("ks,ksh->sh", upstream, prepared.source)
            return gradient.to(source.dtype), *(None,) * 7
        if plan.coefficients is None:
            wide = weight.detach().to(upstream.dtype)
            prepared = _Gradients.zeros(source, wide, bias, scores=None)
            for chunk in _chunks(source, targets, wide, ctx.head, ctx.temperature, ctx.chunk_bytes):
                prepared.add(chunk, upstream[:, chunk.rows], plan.order, wide)
        else:
            _assert_declared(upstream, plan.coefficients)
        gradients = (prepared.source.to(source.dtype), prepared.weight.to(weight.dtype))
        return *gradients, None if bias is None else prepared.bias.to(bias.dtype), *(None,) * 5


@dataclass(frozen=True, eq=False, slots=True)
class _Gradients:
    """Gradients under construction, in the type of accumulation."""

    source: Tensor
    """[S, H], or [scores, S, H] of a frozen head."""
    weight: Tensor
    """[V, H]; empty of a frozen head."""
    bias: Tensor
    """[V]; empty without bias."""

    @classmethod
    def zeros(cls, source: Tensor, weight: Tensor, bias: Tensor | None, scores: int | None) -> _Gradients:
        def empty(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=weight.dtype, device=weight.device)

        if scores is not None:
            return cls(empty(scores, *source.shape), empty(0), empty(0))
        return cls(empty(*source.shape), empty(*weight.shape), empty(0 if bias is None else len(bias)))

    def add(self, chunk: _Chunk, upstream: Tensor, order: tuple[Score, ...], weight: Tensor) -> None:
        gradient = chunk.logit_gradient(order, upstream)
        torch.mm(gradient, weight, out=self.source[chunk.rows])
        self.weight.addmm_(gradient.T, chunk.source)
        if len(self.bias):
            self.bias.add_(gradient.sum(dim=0))


def _prepare(plan: _Plan, source: Tensor, weight: Tensor, bias: Tensor | None) -> _Gradients:
    """What the forward fills for the backward; nothing when the backward recomputes, or without gradients."""
    if plan.frozen or plan.coefficients is not None:
        return _Gradients.zeros(source, weight, bias, scores=len(plan.order) if plan.frozen else None)
    empty = source.new_empty(0)
    return _Gradients(empty, empty, empty)


def _assert_declared(upstream: Tensor, declared: Tensor) -> None:
    """A loss that calls itself linear must be: on CUDA the check does not wait for the device."""
    close = torch.isclose(upstream, declared, rtol=1e-4, atol=0.0).all()
    message = "a loss declared coefficients that are not its gradient with respect to the scores"
    torch._assert_async(close, message)
