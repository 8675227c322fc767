"""From probabilities to the next tokens: truncation, and a draw through the inverse distribution.

Under `local`. Pure: the uniform numbers are given. Log-probabilities that are reported are those of the whole
vocabulary at the temperature, before any truncation or penalty: what training computes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.sampling.params import SamplingParams

BLOCK = 128
"""Tokens of the vocabulary whose probabilities are summed first; a draw looks into one block alone."""


def choose(
    probabilities: Tensor, log_partition: Tensor, uniforms: Tensor, params: SamplingParams, seen: Tensor | None = None
) -> Tensor:
    """[R] the next tokens.

    Args:
        probabilities: [R, V] softmax(z / T); not changed.
        log_partition: [R] log Σ exp(z / T).
        uniforms: [R] in [0, 1), one for each row.
        params: what is allowed.
        seen: [R, V] bool, tokens that the row has already; needed for a repetition penalty.
    """
    if params.repetition_penalty != 1:
        assert seen is not None, "a repetition penalty needs the tokens that were there"
        logits = probabilities.log() + log_partition[:, None]
        probabilities = torch.where(seen, _penalised(logits, params.repetition_penalty), logits).softmax(dim=-1)
    if params.temperature == 0:
        return probabilities.argmax(dim=-1)
    if params.top_k:
        probabilities = _keep(probabilities, _top_k(probabilities, params.top_k))
    if params.top_p < 1:
        probabilities = _keep(probabilities, _top_p(probabilities, params.top_p))
    if params.min_p > 0:
        probabilities = _keep(probabilities, probabilities >= params.min_p * probabilities.amax(dim=-1, keepdim=True))
    return draw(probabilities, uniforms)


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """[R] the first token at which the running sum of the weights [R, V] passes uniform × total.

    Two levels: sums of blocks first, then within one block; so the vocabulary is read once.
    """
    rows, size = weights.shape
    padded = torch.nn.functional.pad(weights, (0, -size % BLOCK)) if size % BLOCK else weights  # padding copies
    blocks = padded.unflatten(1, (-1, BLOCK))
    ends = _running_sum(blocks.sum(dim=-1))  # [R, blocks]
    target = uniforms.to(ends.dtype)[:, None] * ends[:, -1:]
    block = _first_above(ends, target)
    before = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    inner = _running_sum(blocks.gather(1, block[:, :, None].expand(rows, 1, BLOCK))[:, 0]) + before
    place = _first_above(inner, target)
    # The inner sum may end a rounding below the block's own sum, and what is beyond the last weight has none.
    found = (block * BLOCK + place)[:, 0]
    possible = (found < size) & (weights.gather(1, found.clamp(max=size - 1)[:, None])[:, 0] > 0)
    if weights.device.type == "cpu" and bool(possible.all()):  # a device would have to be waited for
        return found
    return torch.where(possible, found, _last_possible(weights, found))


def _running_sum(values: Tensor) -> Tensor:
    """[R, n] sums of each row up to each place. A CPU adds one after the other."""
    return values.cumsum(dim=-1) if values.device.type == "cpu" else sum_by_doubling(values)


def sum_by_doubling(values: Tensor) -> Tensor:
    """[R, n] running sums, in one order of additions on every device (Hillis and Steele 1986, section 3).

    CUDA's own running sum of torch 2.13 has no fixed order, and is refused where only deterministic algorithms are
    allowed: by default, in every run.
    """
    width = 1
    while width < values.shape[-1]:
        values = torch.cat([values[:, :width], values[:, width:] + values[:, :-width]], dim=-1)
        width *= 2
    return values


def _first_above(ends: Tensor, target: Tensor) -> Tensor:
    """[R, 1] index of the first end above the target, the last index if none is."""
    return (ends <= target).sum(dim=-1, keepdim=True).clamp(max=ends.shape[1] - 1)


def _last_possible(weights: Tensor, found: Tensor) -> Tensor:
    """[R] the last token up to `found` that has any weight, else the likeliest."""
    column = torch.arange(weights.shape[1], device=weights.device)
    usable = (weights > 0) & (column <= found[:, None])
    last = torch.where(usable, column, -1).amax(dim=-1)
    return torch.where(last >= 0, last, weights.argmax(dim=-1))


def _keep(weights: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, weights, 0.0)


def _top_k(weights: Tensor, count: int) -> Tensor:
    """[R, V] True for the likeliest tokens; ties with the last of them stay."""
    return weights >= weights.topk(min(count, weights.shape[1]), dim=-1).values[:, -1:]


def _top_p(weights: Tensor, share: float) -> Tensor:
    """[R, V] True for the fewest likeliest tokens that together have the share of what is left."""
    ordered = weights.sort(dim=-1, descending=True)
    before = _running_sum(ordered.values) - ordered.values
    kept = before < share * weights.sum(dim=-1, keepdim=True)
    return torch.zeros_like(kept).scatter(1, ordered.indices, kept)


def _penalised(logits: Tensor, penalty: float) -> Tensor:
    return torch.where(logits > 0, logits / penalty, logits * penalty)
