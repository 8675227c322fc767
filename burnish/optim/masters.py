"""Master weights: float32 copies of 16-bit parameters, kept or temporary, which optimizers update.

bfloat16 weights have 8 bits of mantissa, so an update below 1/256 of a weight would be lost in them. A float32 master
keeps it. Temporary masters are rounded stochastically: a number becomes one of its two neighbors in bfloat16, and is
unchanged in expectation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from burnish.parallel.part import WHOLE, Part, own_parameter, own_tensor

CHUNK_BYTES = 2**28
"""Maximum memory of temporary masters; a larger weight has a chunk of its own."""
_LOW_BITS = 16
"""Low bits of a float32 that bfloat16 does not have."""


class Masters:
    """Master weights: per parameter the tensor that libraries update, itself or a float32 copy of a narrower parameter.

    Gradients are added to the master in float32 after each microbatch, so that accumulation does not round. With
    stochastic rounding, masters have memory for their numbers only while they are updated. Of a sharded parameter, this
    process updates its own piece.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        rounding: torch.Generator | None = None,
        parts: Sequence[Part] | None = None,
    ) -> None:
        """
        Args:
            parameters: the trained parameters.
            rounding: generator of stochastic rounding on the parameters' device; None: masters are kept.
            parts: which part of each parameter this process has; None: all are whole.
        """
        sources = list(parameters)
        self.parts = [WHOLE] * len(sources) if parts is None else list(parts)
        self.parameters = [own_parameter(parameter) for parameter in sources]
        self.rounding = rounding
        self.masters = [self._master(p) for p in self.parameters]
        self._sharded = [
            (source, master)
            for source, master in zip(sources, self.masters, strict=True)
            if isinstance(source, DTensor)
        ]
        for parameter, master in zip(sources, self.masters, strict=True):
            if master is not parameter and not isinstance(parameter, DTensor):
                parameter.register_post_accumulate_grad_hook(partial(_move_gradient, master))

    def _master(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.dtype.itemsize >= 4:
            return parameter
        if self.rounding is None:
            return nn.Parameter(parameter.detach().to(torch.float32))
        assert parameter.dtype == torch.bfloat16, f"stochastic rounding is to bfloat16, not {parameter.dtype}"
        return nn.Parameter(_placeholder(parameter))

    @property
    def weights(self) -> list[nn.Parameter]:
        """Per parameter the tensor with its full precision: the kept master, or itself."""
        return self.masters if self.rounding is None else self.parameters

    @torch.no_grad()
    def collect(self) -> None:
        """Moves the gradients of sharded parameters to the masters of their pieces; called after each microbatch, since
        FSDP2 calls no hook when it has summed them."""
        for parameter, master in self._sharded:
            if parameter.grad is not None:
                _add_gradient(master, own_tensor(parameter.grad))
                parameter.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Rounds kept masters into the model's parameters."""
        for parameter, weight in zip(self.parameters, self.weights, strict=True):
            if weight is not parameter:
                parameter.copy_(weight)

    @torch.no_grad()
    def update_chunks(self) -> Iterator[None]:
        """Iterates over the chunks of an update: in each, some masters have gradients and numbers, and libraries step.

        Without stochastic rounding there is one chunk.
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
        """Indices of all masters, in ranges of at most CHUNK_BYTES."""
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
        """Context manager with the chunk's masters in float32; afterwards they are rounded into the parameters and
        freed."""
        assert self.rounding is not None, "only temporary masters are widened"
        narrow = [i for i in chunk if self.masters[i] is not self.parameters[i]]
        for i in narrow:
            self.masters[i].data = self.parameters[i].to(torch.float32)
        yield
        for i in narrow:
            self.parameters[i].copy_(round_stochastically(self.masters[i].data, self.rounding))
            self.masters[i].data = _placeholder(self.parameters[i])


def round_stochastically(source: Tensor, generator: torch.Generator) -> Tensor:
    """Rounds to bfloat16, up with the probability of the truncated fraction (arXiv 2010.06192, section 3).

    The bits of a float are ordered as its magnitude, so 16 random bits are added below the last bit that bfloat16 has;
    a carry into it rounds up. Infinities and NaN do not change.

    Args:
        source: float32, of any shape.
        generator: generator on the source's device; one number is drawn per element.
    """
    assert source.dtype == torch.float32, f"float32 is rounded, not {source.dtype}"
    noise = torch.randint(1 << _LOW_BITS, source.shape, generator=generator, device=source.device, dtype=torch.int32)
    bits = source.contiguous().view(torch.int32).add(noise).bitwise_and_(-(1 << _LOW_BITS))
    rounded = torch.where(source.isfinite(), bits.view(torch.float32), source)
    return rounded.to(torch.bfloat16)


def _placeholder(parameter: Tensor) -> Tensor:
    """A float32 tensor of the parameter's shape and device with the memory of one number."""
    return torch.zeros((), dtype=torch.float32, device=parameter.device).expand(parameter.shape)


def _move_gradient(master: nn.Parameter, parameter: Tensor) -> None:
    """Moves a fresh gradient from a parameter to its master."""
    assert parameter.grad is not None, "the hook runs after a gradient was accumulated"
    _add_gradient(master, parameter.grad)
    parameter.grad = None


def _add_gradient(master: nn.Parameter, gradient: Tensor) -> None:
    gradient = gradient.to(master.dtype)
    master.grad = gradient if master.grad is None else master.grad.add_(gradient)
