"""What a library updates: parameters themselves, float32 twins of narrow ones, or such twins for a moment only.

bfloat16 weights have 8 bits of mantissa, so an update below 1/256 of a weight would be lost in them. A twin keeps it.
Without twins, the rounding is by chance, so that it is kept on average.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from burnish.optim.rounding import round_stochastically

CHUNK_BYTES = 2**28
"""Most memory of twins that exist for a moment; a larger weight is alone in its chunk."""


class Masters:
    """What libraries update for each parameter: itself, or for one that is narrower than float32 its float32 twin.

    Gradients are added to the twin in float32 as each microbatch makes them, so that accumulation does not round. With
    stochastic rounding, twins have memory for their numbers only while they are updated.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rounding: torch.Generator | None = None) -> None:
        """
        Args:
            parameters: those that learn.
            rounding: the chance of stochastic rounding, of the parameters' device; None: twins stay.
        """
        self.parameters = list(parameters)
        self.rounding = rounding
        self.masters = [self._master(p) for p in self.parameters]
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.register_post_accumulate_grad_hook(partial(_hand_over, master))

    def _master(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.dtype.itemsize >= 4:
            return parameter
        if self.rounding is None:
            return nn.Parameter(parameter.detach().to(torch.float32))
        assert parameter.dtype == torch.bfloat16, f"stochastic rounding is to bfloat16, not {parameter.dtype}"
        return nn.Parameter(_shape_alone(parameter))

    @property
    def weights(self) -> list[nn.Parameter]:
        """For each parameter the tensor with all that is known of its numbers: the twin, if it lasts, or itself."""
        return self.masters if self.rounding is None else self.parameters

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds twins that last into the weights that the model computes with."""
        for parameter, weight in zip(self.parameters, self.weights, strict=True):
            if weight is not parameter:
                parameter.copy_(weight)

    @torch.no_grad()
    def turns(self) -> Iterator[None]:
        """What an update goes through: in each turn the libraries step, and some masters have gradients and numbers.

        Twins that last, and parameters that are their own masters, have one turn together.
        """
        if self.rounding is None:
            yield
            return
        gradients = [master.grad for master in self.masters]
        for chunk in self._chunks():
            for index in range(len(self.masters)):
                self.masters[index].grad = gradients[index] if index in chunk else None
            with self._widened(chunk):
                yield
            for index in chunk:
                gradients[index] = None

    def _chunks(self) -> Iterator[range]:
        """The indices of all masters, in runs whose twins are no larger than CHUNK_BYTES together."""
        start, size = 0, 0
        for index, master in enumerate(self.masters):
            needed = 4 * master.numel()
            if size and size + needed > CHUNK_BYTES:
                yield range(start, index)
                start, size = index, 0
            size += needed
        yield range(start, len(self.masters))

    @contextmanager
    def _widened(self, chunk: range) -> Iterator[None]:
        """Twins of the chunk get the weights' numbers; afterwards they are rounded into the weights and forgotten."""
        assert self.rounding is not None, "only twins of a moment are widened"
        narrow = [i for i in chunk if self.masters[i] is not self.parameters[i]]
        for i in narrow:
            self.masters[i].data = self.parameters[i].to(torch.float32)
        yield
        for i in narrow:
            self.parameters[i].copy_(round_stochastically(self.masters[i].data, self.rounding))
            self.masters[i].data = _shape_alone(self.parameters[i])


def _shape_alone(parameter: Tensor) -> Tensor:
    """A float32 tensor of the parameter's shape and device, whose numbers all are one."""
    return torch.zeros((), dtype=torch.float32, device=parameter.device).expand(parameter.shape)


def _hand_over(master: nn.Parameter, parameter: Tensor) -> None:
    """Moves a fresh gradient from a parameter to its master."""
    assert parameter.grad is not None, "the hook runs after a gradient was accumulated"
    gradient = parameter.grad.to(torch.float32)
    master.grad = gradient if master.grad is None else master.grad.add_(gradient)
    parameter.grad = None
