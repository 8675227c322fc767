"""Mesh: how the processes of a run divide the rows of a step and the weights among them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mesh:
    """Sizes of the three dimensions; ranks count the last one first.

    Example: with ``Mesh(data=2, shard=2)``, ranks 0 and 1 have the weights together, and so have ranks 2 and 3.
    """

    data: int = 1
    """Copies of the weights."""
    shard: int = 1
    """Processes that each keep a part of every weight of a copy, and gather it to compute."""
    tensor: int = 1
    """Processes that compute the same rows with a part of every layer each."""

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.data * self.shard * self.tensor

    @property
    def shares(self) -> int:
        """Number of processes with different rows."""
        return self.data * self.shard

    def share(self, rank: int) -> int:
        """Index of the share of the rows that a process computes."""
        return rank // self.tensor

    def same_rows(self, rank: int) -> list[int]:
        """Ranks with the same rows (tensor parallelism), in the order of their parts."""
        first = rank - rank % self.tensor
        return list(range(first, first + self.tensor))

    def other_rows(self, rank: int) -> list[int]:
        """Ranks that have each a different share of the rows, in the order of the shares, and the same part of the
        layers."""
        return list(range(rank % self.tensor, self.size, self.tensor))

    def sharded(self, rank: int) -> list[int]:
        """Ranks that have a copy of the weights together, in the order of their parts."""
        share, part = divmod(rank, self.tensor)
        first = share - share % self.shard
        return [each * self.tensor + part for each in range(first, first + self.shard)]

    def copies(self, rank: int) -> list[int]:
        """Ranks that have the same part of the weights, one of each copy."""
        step = self.shard * self.tensor
        return list(range(rank % step, self.size, step))
