"""Columns of the logits of one process, of several that divide the vocabulary (tensor parallelism).

Logits are never gathered for scoring: a softmax over the whole vocabulary needs the largest logit and one sum of every
process, numbers of the shape [m] for a chunk of m tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from burnish.parallel.groups import Group


@dataclass(frozen=True, eq=False, slots=True)
class Columns:
    """The tokens of this process. Example: the second half of 32 000 tokens is ``Columns(16_000, 16_000, 32_000, g)``.

    Every method is collective over the group.
    """

    start: int
    """The first token."""
    count: int
    """Number of tokens."""
    vocabulary: int
    """Number of tokens of all processes."""
    group: Group
    """The processes."""

    def sum(self, values: Tensor) -> Tensor:
        """Sums of every process's values."""
        total = values.clone(memory_format=torch.contiguous_format)
        self.group.sum(total)
        return total

    def logsumexp(self, values: Tensor) -> Tensor:
        """log Σ exp over every process's values."""
        largest = self._largest(values)
        return largest + self.sum(torch.exp(values - largest)).log()

    def softmax(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the logits [m, count] of this process: its probabilities [m, count], and of the whole vocabulary
        log Σ exp z [m] and the logits of the targets [m]."""
        largest = self._largest(logits.amax(dim=1))
        index, own = self.own(targets)
        chosen = torch.where(own, logits.gather(1, index[:, None])[:, 0], 0.0)
        total = torch.exp(logits - largest[:, None]).sum(dim=1)
        total, chosen = self.sum(torch.stack([total, chosen]))
        log_partition = largest + total.log()
        return torch.exp(logits - log_partition[:, None]), log_partition, chosen

    def own(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of targets [m]: their columns here [m], 0 for those of another process; and which are here [m]."""
        index = targets - self.start
        own = (index >= 0) & (index < self.count)
        return torch.where(own, index, 0), own

    def gathered(self, logits: Tensor) -> Tensor:
        """[m, vocabulary], the logits of all processes: for sampling."""
        parts = [torch.empty_like(logits) for _ in self.group.ranks]
        dist.all_gather(parts, logits.contiguous(), group=self.group.handle)
        return torch.cat(parts, dim=1)

    def _largest(self, values: Tensor) -> Tensor:
        largest = values.clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.group.handle)
        return largest
