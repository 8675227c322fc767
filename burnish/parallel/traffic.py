"""Bytes that the processes of a layout send in a training step: what docs/parallel.md counts, and tests verify.

A collective call is counted by the bytes of its whole tensor. In a ring of N processes each sends and receives
(N − 1)/N of that for a gather or a scatter, and twice as much for an all-reduce (Patarasuk and Yuan 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

from burnish.parallel.mesh import Mesh


@dataclass(frozen=True, slots=True)
class ModelBytes:
    """Bytes of a model on one process, after tensor parallelism has cut it."""

    layers: float
    """Of the weights of the decoder's layers."""
    others: float
    """Of all other weights: embedding, head, vision tower."""
    gradients: float
    """Of the gradients of all trained weights, in the type of the weights; of a 16-bit one in float32 with `data`."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Sizes of what layers give to each other in a microbatch."""

    tokens: int
    """Packed tokens."""
    scored: int
    """Tokens that are scored."""
    hidden: int
    """Bytes of the hidden state of one token."""
    num_layers: int
    ties_head: bool
    """Whether the embedding is that of the head, and divided with it."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of the whole tensors of collective calls, as one process takes part in them."""

    all_gather: float = 0.0
    reduce_scatter: float = 0.0
    all_reduce: float = 0.0

    def sent(self, size: int) -> float:
        """Bytes that a process sends in a ring of so many."""
        return (self.all_gather + self.reduce_scatter + 2 * self.all_reduce) * (size - 1) / size


def of_shards(model: ModelBytes, num_microbatches: int) -> Traffic:
    """Of a step with sharded weights, within the processes that have a copy together: every microbatch gathers the
    layers twice, all others once, and sums the gradients."""
    gathered = 2 * model.layers + model.others
    return Traffic(all_gather=num_microbatches * gathered, reduce_scatter=num_microbatches * model.gradients)


def of_copies(model: ModelBytes, mesh: Mesh) -> Traffic:
    """Of a step between copies of the weights: the gradient of this process's part, once."""
    return Traffic(all_reduce=model.gradients / mesh.shard) if mesh.data > 1 else Traffic()


def of_slices(activations: Activations) -> Traffic:
    """Of a microbatch with tensor parallelism: in each layer the outputs of attention and of the feed-forward network,
    and in the backward their gradients; the gradient of the scored hidden states; a tied embedding's output. (The
    softmax adds three numbers for each scored token, which are not counted.)"""
    a = activations
    in_layers = 4 * a.num_layers * a.tokens * a.hidden
    return Traffic(all_reduce=in_layers + (a.scored + a.tokens * a.ties_head) * a.hidden)
