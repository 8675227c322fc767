"""Scores of tokens from hidden states. Here and in `score_chunk` alone, a tensor has a vocabulary axis.

Sits between packing and loss. [scored, vocabulary] is never built: scored tokens are computed in chunks, and tensors
kept for the backward have no vocabulary axis. Every score is a function of one row of logits z, p = softmax z:

=============  ==========================  ====================================================
score          value                       ds/dz
=============  ==========================  ====================================================
logprob        z[target] − log Σ exp z     onehot − p
entropy        −Σ p log p                  −p · (log p + entropy)
log_partition  log Σ exp z                 p
mean_logprob   mean(z) − log Σ exp z       1/V − p
log_collision  log Σ p²                    2 p · (p / Σ p² − 1)
divergence     see `divergence`            see there
agreement      1 or 0                      0
=============  ==========================  ====================================================

so for upstream gradients the row gradient, but for that of a divergence, is always
a·onehot + b·p + c·p·log p + d + e·p²  with five numbers per row.
Three routes lead to the gradient:

- `_FrozenHead` (LoRA): ds/dh is kept per score, [S, H]; the backward multiplies by the upstream number, no recompute.
  Rows of added tokens train while the others are frozen: their logits replace the head's in every chunk, and ds/dz of
  these R columns is kept per score too, [S, R]. The cost is R more columns of the product, and no copy of the head.
- `_KnownUpstream` (plain likelihood: the loss declares its coefficients): both gradients are made in the forward.
- `_Recomputed`: the backward computes the logits of a chunk again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from burnish.model.divergence import Comparison, Side
from burnish.model.gather import Gather
from burnish.model.head import Head, NewRows, accumulation_dtype
from burnish.model.logits import HeadProduct, LogitSettings
from burnish.model.products import HeadMatrix, OuterSum
from burnish.model.score_chunk import Chunk
from burnish.types import TEACHER_SCORES, Microbatch, Score, TokenScores

CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 512 * 2**20}
"""Size of one chunk of logits, by the kind of device. On a CPU it fits into the cache; on a GPU it has some
hundred tokens even with a vocabulary of 256 000, so that its products are bound by arithmetic and not by reading the
head."""
_FULL_ROW_SCORES = TEACHER_SCORES | {Score.ENTROPY, Score.MEAN_LOGPROB, Score.LOG_COLLISION}
"""Scores that need all log-probabilities of a token's distribution."""


def score(
    hidden: Tensor,
    head: Head,
    microbatch: Microbatch,
    needs: Collection[Score],
    *,
    temperature: float = 1.0,
    coefficients: Mapping[Score, Tensor] | None = None,
    chunk_bytes: int | None = None,
    comparison: Comparison | None = None,
) -> TokenScores:
    """Scores the microbatch's tokens.

    Args:
        hidden: [N, H] last hidden states of the packed positions.
        head: the output head.
        microbatch: says which positions predict which targets.
        needs: the scores to compute; others are None in the result.
        temperature: divisor of the logits; that at which the responses were sampled.
        coefficients: [S] per needed score, the upstream gradient of a linear loss if it is known beforehand; avoids
            recomputation for a trained head. The backward asserts that the upstream gradient is the declared one.
        chunk_bytes: memory for one chunk of logits; None: the device's default.
        comparison: with a teacher, for the scores that compare distributions.

    Returns:
        [S] per needed score, float32 (float64 for float64 hidden states).
    """
    order = tuple(kind for kind in Score if kind in needs)
    source = Gather.apply(hidden, microbatch.predictor_positions, microbatch.gather_rounds)
    new = head.new_rows
    size = CHUNK_BYTES.get(hidden.device.type, CHUNK_BYTES["cpu"]) if chunk_bytes is None else chunk_bytes
    new_tokens = None if new is None else new.tokens
    setting = LogitSettings(head.scale, head.softcap, temperature, size, new_tokens, head.columns)
    new_rows = None if new is None else new.values.to(head.weight.dtype)  # rounded as in the model's own forward
    route = _choose_route(source, head, order, coefficients)
    side = None if comparison is None or not TEACHER_SCORES & set(order) else comparison.side(microbatch, temperature)
    values = _LinearScores.apply(
        source, head.weight, head.bias, new_rows, microbatch.targets, setting, order, route, side
    )
    return TokenScores(**{kind.value: values[k] for k, kind in enumerate(order)})


@dataclass(frozen=True, eq=False, slots=True)
class _Logits:
    """Logits of all scored tokens, computed one chunk at a time."""

    source: Tensor
    """[S, H], in the model's type."""
    targets: Tensor
    """[S]"""
    head: HeadProduct
    order: tuple[Score, ...]
    """The scores that are computed."""
    side: Side | None = None

    def __iter__(self) -> Iterator[Chunk]:
        matrix = self.head.matrix
        size = max(1, self.head.settings.chunk_bytes // (matrix.given.shape[0] * matrix.dtype.itemsize))
        for start in range(0, len(self.source), size):
            yield self.chunk(slice(start, min(start + size, len(self.source))))

    def chunk(self, rows: slice) -> Chunk:
        part = self.source[rows]
        return self._normalized(rows, part, *self.head.logits(part))

    def _normalized(self, rows: slice, part: Tensor, logits: Tensor, capped: Tensor | None) -> Chunk:
        """Softmax of the logits in as few passes as torch's functions allow, since a chunk is larger than a core's
        cache and exponentials cost a fifth of the product. The largest probability of a token is 1 / Σ exp(z − max z),
        so softmax alone gives the log-partition."""
        targets, columns = self.targets[rows], self.head.settings.columns
        whole = not _FULL_ROW_SCORES.isdisjoint(self.order)
        if columns is not None:
            probabilities, log_partition, chosen = columns.softmax(logits, targets)
        else:
            largest, chosen = logits.amax(dim=1), logits.gather(1, targets[:, None])[:, 0]
            probabilities = torch.softmax(logits, dim=1) if whole else torch.softmax(logits, dim=1, out=logits)
            log_partition = largest - probabilities.amax(dim=1).log()
        return Chunk(
            rows,
            part,
            targets,
            probabilities,
            logprobs=logits.sub_(log_partition[:, None]) if whole else None,
            logprob=chosen - log_partition,
            log_partition=log_partition,
            capped=capped,
            compared=None if self.side is None else self.side(rows),
            slope=self.head.settings.slope,
            columns=columns,
        )


class _LinearScores(torch.autograd.Function):
    """[S, H] hidden states → [scores, S], chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        new_rows: Tensor | None,
        targets: Tensor,
        setting: LogitSettings,
        order: tuple[Score, ...],
        route: _Route,
        side: Side | None,
    ) -> Tensor:
        dtype = accumulation_dtype(source.dtype)
        new = None if new_rows is None else new_rows.to(dtype)
        product = HeadProduct(HeadMatrix.of(weight, source.dtype), bias, new, setting)
        logits = _Logits(source, targets, product, order, side)
        values = source.new_empty((len(order), len(source)), dtype=dtype)
        for chunk in logits:
            values[:, chunk.rows] = chunk.values(order)
            route.visit(chunk, logits)
        ctx.setting, ctx.order, ctx.route, ctx.side = setting, order, route, side
        ctx.save_for_backward(source, weight, bias, new_rows, targets)
        return values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        source, weight, bias, new_rows, targets = ctx.saved_tensors
        dtype = upstream.dtype
        new = None if new_rows is None else new_rows.to(dtype)
        product = HeadProduct(HeadMatrix.of(weight, source.dtype), bias, new, ctx.setting)
        logits = _Logits(source, targets, product, ctx.order, ctx.side)
        gradients = ctx.route.gradients(upstream, logits)
        if ctx.setting.columns is not None:  # each process has a summand of the gradient of hidden states
            ctx.setting.columns.group.sum(gradients[0])
        inputs = (source, weight, bias, new_rows)
        return *(None if g is None or x is None else g.to(x.dtype) for g, x in zip(gradients, inputs, strict=True)), *(
            None,
        ) * 5


_Gradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Gradients of hidden states, head matrix, head bias, and new rows of a frozen matrix."""


class _Route(Protocol):
    """One way to compute the gradient."""

    def visit(self, chunk: Chunk, logits: _Logits) -> None:
        """Called once for every chunk of the forward."""

    def gradients(self, upstream: Tensor, logits: _Logits) -> _Gradients:
        """Gradients from the upstream ones [scores, S]; called in the backward."""


def _choose_route(
    source: Tensor, head: Head, order: tuple[Score, ...], coefficients: Mapping[Score, Tensor] | None
) -> _Route:
    trained_head = head.weight.requires_grad or (head.bias is not None and head.bias.requires_grad)
    new_rows = head.new_rows is not None and head.new_rows.values.requires_grad
    if not torch.is_grad_enabled() or not (source.requires_grad or trained_head or new_rows):
        return _Recomputed(order)  # there is no backward, so nothing is kept
    if not trained_head:
        return _FrozenHead(order, source, head.new_rows)
    assert head.new_rows is None, "rows train separately only in a frozen head"
    if coefficients is None:
        return _Recomputed(order)
    known = torch.stack([coefficients[kind] for kind in order])
    return _KnownUpstream(order, known.to(accumulation_dtype(source.dtype)))


class _Recomputed:
    """Keeps nothing in the forward, and computes the chunks again in the backward."""

    def __init__(self, order: tuple[Score, ...]) -> None:
        self.order = order

    def visit(self, chunk: Chunk, logits: _Logits) -> None:
        pass

    def gradients(self, upstream: Tensor, logits: _Logits) -> _Gradients:
        sums = _Sums(logits)
        for chunk in logits:
            sums.add(chunk.product_gradient(self.order, upstream[:, chunk.rows]), chunk)
        return sums.gradients()


class _FrozenHead:
    """Keeps ds/dh of every score, and ds/dz of the tokens whose rows train; the gradient is linear in the upstream
    number."""

    def __init__(self, order: tuple[Score, ...], source: Tensor, new: NewRows | None) -> None:
        self.order = order
        dtype, num_new = accumulation_dtype(source.dtype), 0 if new is None else len(new.tokens)
        self.score_gradients = source.new_empty((len(order), *source.shape), dtype=dtype)
        self.columns = source.new_empty((len(order), len(source), num_new), dtype=dtype)

    def visit(self, chunk: Chunk, logits: _Logits) -> None:
        matrix, new_rows = logits.head.matrix, logits.head.new_rows
        for k, unit in enumerate(torch.eye(len(self.order), dtype=matrix.dtype, device=matrix.given.device)):
            own = chunk if k + 1 == len(self.order) else replace(chunk, probabilities=chunk.probabilities.clone())
            gradient = own.product_gradient(self.order, unit[:, None].expand(-1, len(chunk.source)))
            into = self.score_gradients[k, chunk.rows]
            if new_rows is None:
                matrix.back(gradient, into)
                continue
            new_tokens = logits.head.settings.new_tokens
            columns = gradient[:, new_tokens]
            gradient[:, new_tokens] = 0.0
            matrix.back(gradient, into).addmm_(columns, new_rows)
            self.columns[k, chunk.rows] = columns

    def gradients(self, upstream: Tensor, logits: _Logits) -> _Gradients:
        source = torch.einsum("ks,ksh->sh", upstream, self.score_gradients)
        if logits.head.new_rows is None:
            return source, None, None, None
        slopes = torch.einsum("ks,ksr->rs", upstream, self.columns)
        return source, None, None, slopes @ logits.source.to(slopes.dtype)


class _KnownUpstream:
    """Computes both gradients in the forward, for a loss that declared its coefficients [scores, S]."""

    def __init__(self, order: tuple[Score, ...], coefficients: Tensor) -> None:
        self.order, self.coefficients = order, coefficients
        self.sums: _Sums | None = None

    def visit(self, chunk: Chunk, logits: _Logits) -> None:
        self.sums = self.sums or _Sums(logits)
        self.sums.add(chunk.product_gradient(self.order, self.coefficients[:, chunk.rows]), chunk)

    def gradients(self, upstream: Tensor, logits: _Logits) -> _Gradients:
        """Checks that the loss is linear as it declared; on CUDA the check does not wait for the device."""
        close = torch.isclose(upstream, self.coefficients, rtol=1e-4, atol=0.0).all()
        torch._assert_async(close, "a loss declared coefficients that are not its gradient with respect to the scores")
        return (self.sums or _Sums(logits)).gradients()


class _Sums:
    """Sums of gradients over chunks, in the accumulation type."""

    def __init__(self, logits: _Logits) -> None:
        self.matrix = logits.head.matrix
        self.source = torch.empty_like(logits.source, dtype=self.matrix.dtype)
        self.weight = OuterSum(self.matrix)
        bias = logits.head.bias
        self.bias = None if bias is None else torch.zeros_like(bias, dtype=self.matrix.dtype)

    def add(self, gradient: Tensor, chunk: Chunk) -> None:
        """Adds a chunk's [chunk, V] gradient of W h + b."""
        self.matrix.back(self.weight.add(gradient, chunk.source), self.source[chunk.rows])
        if self.bias is not None:
            self.bias.add_(gradient.sum(dim=0))

    def gradients(self) -> _Gradients:
        return self.source, self.weight.total(), self.bias, None
