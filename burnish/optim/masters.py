"""Float32 twins of narrow weights."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn


class Masters:
    """Float32 twins of the parameters that are narrower than float32; wider ones stand for themselves.

    Gradients are added to the twin in float32 as each microbatch makes them, so that accumulation does not round.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.masters = [_twin(p) if p.dtype.itemsize < 4 else p for p in self.parameters]
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.register_post_accumulate_grad_hook(partial(_hand_over, master))

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the weights that the model computes with."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)


def _twin(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(torch.float32))


def _hand_over(master: nn.Parameter, parameter: Tensor) -> None:
    """Moves a fresh gradient from a parameter to its master."""
    assert parameter.grad is not None, "the hook runs after a gradient was accumulated"
    gradient = parameter.grad.to(torch.float32)
    master.grad = gradient if master.grad is None else master.grad.add_(gradient)
    parameter.grad = None
