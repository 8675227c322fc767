"""The most probable tokens of a teacher's distributions, computed in chunks and without gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.model.head import Head
from burnish.model.logits import HeadProduct
from burnish.model.scoring import CHUNK_BYTES


@dataclass(frozen=True, eq=False, slots=True)
class TopTokens:
    """The k most probable tokens of S distributions, and the mass of all others."""

    tokens: Tensor
    """[S, K] int64, most probable first."""
    logprobs: Tensor
    """[S, K] nats."""
    tail: Tensor
    """[S] nats, log of the probability of all other tokens; −inf: there is none."""


@torch.no_grad()
def top_tokens(
    states: Tensor, head: Head, k: int, *, temperature: float = 1.0, vocabulary: int | None = None
) -> TopTokens:
    """The k most probable tokens of each state's next-token distribution.

    Args:
        states: [S, H] last hidden states.
        head: the output head.
        k: number of tokens; at most the vocabulary is taken.
        temperature: divisor of the logits.
        vocabulary: size of the vocabulary of which the distribution is, if it is smaller than the head's (whose last
            rows are padding); None: all of it.

    Returns:
        float32 log-probabilities (float64 of float64 states). The tail is summed over its own tokens, not one minus the
        rest.
    """
    product = HeadProduct.frozen(head, temperature)
    size = product.vocabulary if vocabulary is None else min(vocabulary, product.vocabulary)
    chunk_bytes = CHUNK_BYTES.get(states.device.type, CHUNK_BYTES["cpu"])
    rows = max(1, chunk_bytes // (product.vocabulary * product.matrix.dtype.itemsize))
    parts = [_of_chunk(product.logits(chunk)[0][:, :size], min(k, size)) for chunk in states.split(rows)]
    return TopTokens(*(torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "logprobs", "tail")))


def _of_chunk(logits: Tensor, k: int) -> TopTokens:
    logprobs = torch.log_softmax(logits.clamp(min=torch.finfo(logits.dtype).min / 4), dim=1)  # −inf: excluded tokens
    largest, tokens = torch.topk(logprobs, k, dim=1)
    tail = torch.logsumexp(logprobs.scatter(1, tokens, -torch.inf), dim=1)
    return TopTokens(tokens, largest, tail)
