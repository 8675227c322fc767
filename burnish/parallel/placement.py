"""Placement: where the weights of a model are, and how a computation gets at them. Here all are on this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from burnish.parallel.columns import Columns
from burnish.parallel.part import WHOLE, Part

T = TypeVar("T")


class Placement:
    """Placement of a model whose weights are whole."""

    device: torch.device | None = None
    """Where it computes; None: where its weights are."""
    columns: Columns | None = None
    """The tokens of the output head that are on this process; None: all."""
    is_divided: bool = False
    """Whether a computation needs other processes, which compute the same or with the same weights."""
    gathers: bool = False
    """Whether a computation gathers weights, so that all processes that have them together compute equally often."""

    def part(self, name: str) -> Part:
        """The part of a weight that this process has, by its name in `Model.named_parameters`."""
        return WHOLE

    def compute(self, work: Callable[[], T]) -> T:
        """The result of a computation with the model, tensors in tuples, lists or dictionaries. Gradients reach the
        weights through them."""
        return work()

    def take_unused(self) -> set[str]:
        """Names of weights whose gradients are 0 since no computation of this process reached them, after the last
        call. (Those that have no gradient at all need no name.)"""
        return set()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Context manager with all weights on this process, for many computations without gradients and without a
        change of weights. `compute` is not needed in it."""
        yield

    @contextmanager
    def whole(self, *, here: bool) -> Iterator[None]:
        """Context manager in which the model's weights are whole tensors on the CPU, to be saved.

        Args:
            here: whether this process needs them; the others only take part in gathering them.
        """
        yield


PLACED = Placement()
"""The placement of a model on one device."""
