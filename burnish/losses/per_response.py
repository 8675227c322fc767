"""Per-token scores → one number per response, and the table of responses by group.

Stands between scoring and every preference loss. Only a response's own scored tokens count, each with its weight;
trained prompt tokens belong to no response. Nothing here waits for the device: shapes are those of the microbatch.

Axes in comments: S scored tokens, R responses (sequences of the microbatch), G groups, K most responses of a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.types import Microbatch


def constant(stream: Tensor | None, like: Tensor) -> Tensor:
    """[S] a stream that responses must have, in the data type of the scores."""
    assert stream is not None, "responses have the streams that the loss reads"
    return stream.to(like.dtype)


def sum_per_response(values: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] → [R], the sum over each response's scored tokens; 0 where it has none."""
    own = torch.where(microbatch.response_positions >= 0, values, 0.0)
    return torch.segment_reduce(own, "sum", lengths=microbatch.sequence_tokens, unsafe=True)


def weights_like(values: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] the weights, in the data type of the scores."""
    return microbatch.weights.to(values.dtype)


def total_logprob(logprob: Tensor, microbatch: Microbatch) -> Tensor:
    """[R] nats, Σ w·log p: the log-probability of a response as DPO means it. `logprob` may be any [S] of nats."""
    return sum_per_response(weights_like(logprob, microbatch) * logprob, microbatch)


def mean_logprob(logprob: Tensor, microbatch: Microbatch) -> Tensor:
    """[R] nats per token, Σ w·log p / Σ w; 0 where nothing counts."""
    return per_length(total_logprob(logprob, microbatch), logprob, microbatch)


def per_length(total: Tensor, logprob: Tensor, microbatch: Microbatch) -> Tensor:
    """[R] divided by the length Σ w of each response (its number of trained tokens where there are no weights)."""
    length = sum_per_response(weights_like(logprob, microbatch), microbatch)
    return total / torch.where(length > 0, length, 1.0)


def log_ratios(logprob: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] nats, log π(y_t) − log π_ref(y_t)."""
    reference = microbatch.reference_logprobs
    assert reference is not None, "a loss with a reference gets responses with reference_logprobs"
    return logprob - reference.to(logprob.dtype)


def num_tokens(microbatch: Microbatch) -> Tensor:
    """[R] int64, scored tokens of each response."""
    own = (microbatch.response_positions >= 0).to(torch.float64)  # segment_reduce has no integers
    return torch.segment_reduce(own, "sum", lengths=microbatch.sequence_tokens, unsafe=True).to(torch.int64)


def by_group(values: Tensor, microbatch: Microbatch, absent: float) -> Tensor:
    """[R] → [G, K], the value of response k of group g; `absent` if there is none."""
    members = microbatch.group_table
    return torch.where(members >= 0, values[members.clamp(min=0)], absent)


def to_responses(values: Tensor, microbatch: Microbatch) -> Tensor:
    """[G] → [R], each group's value for all its responses."""
    members, size = microbatch.group_table, microbatch.num_sequences
    spread = values.new_empty(size + 1)  # the last entry takes the values of absent responses
    spread[torch.where(members >= 0, members, size)] = values[:, None].expand(members.shape)
    return spread[:size]


def response_of_each(values: Tensor, microbatch: Microbatch, index: int, of: int) -> Tensor:
    """[R] → [G], the value of response `index` in groups that all have `of` responses."""
    members = microbatch.group_table
    assert members.shape[1] == of, f"this loss compares {of} responses of a prompt, got up to {members.shape[1]}"
    torch._assert_async((members >= 0).all(), f"every group of this loss has {of} responses, seen at once")
    return values[members[:, index]]
