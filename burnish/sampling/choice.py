"""Choice of the next tokens from probabilities: penalty, truncation, and a draw by the inverse distribution function.

Pure functions: uniform numbers are arguments. Reported log-probabilities are those of the whole vocabulary at the
temperature, before any truncation or penalty, as training computes them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.sampling.params import SamplingParams

BLOCK = 128
"""Tokens per block of the vocabulary; blocks are summed first, then a draw searches one block."""


def choose(
    probabilities: Tensor, log_partition: Tensor, uniforms: Tensor, params: SamplingParams, seen: Tensor | None = None
) -> Tensor:
    """Chooses the next tokens [R].

    Args:
        probabilities: [R, V] softmax(z / T); not changed.
        log_partition: [R] log Σ exp(z / T).
        uniforms: [R] in [0, 1), one per sequence.
        params: penalty, temperature and truncation.
        seen: [R, V] bool, tokens of prompt and response; needed for a repetition penalty.
    """
    if params.repetition_penalty != 1:
        assert seen is not None, "a repetition penalty needs the earlier tokens"
        logits = probabilities.log() + log_partition[:, None]
        probabilities = torch.where(seen, _penalized(logits, params.repetition_penalty), logits).softmax(dim=-1)
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
    """Draws tokens [R]: the first at which the cumulative sum of the weights [R, V] exceeds uniform × total.

    In two levels, sums of blocks and then within one block, so the vocabulary is read once.
    """
    num_sequences, size = weights.shape
    # Pads only if needed, since padding copies.
    padded = torch.nn.functional.pad(weights, (0, -size % BLOCK)) if size % BLOCK else weights
    blocks = padded.unflatten(1, (-1, BLOCK))
    ends = _cumulative_sum(blocks.sum(dim=-1))  # [R, blocks]
    target = uniforms.to(ends.dtype)[:, None] * ends[:, -1:]
    block = _first_above(ends, target)
    before = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0.0)
    inner = _cumulative_sum(blocks.gather(1, block[:, :, None].expand(num_sequences, 1, BLOCK))[:, 0]) + before
    place = _first_above(inner, target)
    # The inner sum may be rounded to less than the block's own sum: then the index lies behind the last weight > 0.
    tokens = (block * BLOCK + place)[:, 0]
    possible = (tokens < size) & (weights.gather(1, tokens.clamp(max=size - 1)[:, None])[:, 0] > 0)
    if weights.device.type == "cpu" and bool(possible.all()):  # on a GPU, the test would wait for the device
        return tokens
    return torch.where(possible, tokens, _last_possible(weights, tokens))


def _cumulative_sum(values: Tensor) -> Tensor:
    """[R, n] cumulative sums of each row; on a CPU in sequential order."""
    return values.cumsum(dim=-1) if values.device.type == "cpu" else sum_by_doubling(values)


def sum_by_doubling(values: Tensor) -> Tensor:
    """[R, n] cumulative sums, in one order of additions on every device (Hillis and Steele 1986, section 3).

    CUDA's own cumulative sum of torch 2.13 has no fixed order, and is refused where only deterministic algorithms are
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


def _last_possible(weights: Tensor, tokens: Tensor) -> Tensor:
    """[R] the last token up to `tokens` with a positive weight, else the most probable one."""
    column = torch.arange(weights.shape[1], device=weights.device)
    usable = (weights > 0) & (column <= tokens[:, None])
    last = torch.where(usable, column, -1).amax(dim=-1)
    return torch.where(last >= 0, last, weights.argmax(dim=-1))


def _keep(weights: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, weights, 0.0)


def _top_k(weights: Tensor, count: int) -> Tensor:
    """[R, V] True for the `count` most probable tokens, and ties with the last of them."""
    return weights >= weights.topk(min(count, weights.shape[1]), dim=-1).values[:, -1:]


def _top_p(weights: Tensor, share: float) -> Tensor:
    """[R, V] True for the smallest set of most probable tokens that has the share of the total weight."""
    ordered = weights.sort(dim=-1, descending=True)
    before = _cumulative_sum(ordered.values) - ordered.values
    mask = before < share * weights.sum(dim=-1, keepdim=True)
    return torch.zeros_like(mask).scatter(1, ordered.indices, mask)


def _penalized(logits: Tensor, penalty: float) -> Tensor:
    return torch.where(logits > 0, logits / penalty, logits * penalty)
