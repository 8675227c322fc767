"""Tensor parallelism: processes that compute the same rows, each with a slice of every layer (arXiv 1909.08053).

The plan of transformers says which matrices are cut by columns (their outputs are divided) and which by rows (their
outputs are summands). Where a divided part begins, the backward sums gradients over the processes; where it ends, the
forward sums outputs. So hidden states between layers are whole and equal on all of them. Adapters (LoRA) are cut as
their layer is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from burnish.errors import ModelError
from burnish.parallel.columns import Columns
from burnish.parallel.groups import Group
from burnish.parallel.part import Split

COLUMNS, ROWS, PARTIAL = "colwise", "rowwise", "replicated_with_grad_allreduce"
"""Styles of plans that are implemented."""


class _Enter(torch.autograd.Function):
    """The tensor itself; the backward sums gradients over the processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        ctx.group.sum(total)
        return total, None


class _Leave(torch.autograd.Function):
    """The sum over the processes; the backward gives the gradient to each."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Group) -> Tensor:
        total = tensor.contiguous().clone()
        group.sum(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Slices:
    """Cuts the weights of a model, and remembers which."""

    def __init__(self, group: Group, rank: int) -> None:
        """
        Args:
            group: the processes.
            rank: this one.
        """
        self.group, self.count, self.index = group, len(group.ranks), group.ranks.index(rank)
        self.split: dict[int, Split] = {}
        """Id of a parameter → its slice."""
        self.partial: set[int] = set()
        """Ids of whole parameters of whose gradient each process has a summand."""
        self._entered: tuple[Tensor, Tensor] | None = None

    def decoder(self, decoder: nn.Module, plan: Mapping[str, str], heads: int) -> None:
        """Cuts the layers of a decoder.

        Args:
            decoder: the decoder.
            plan: name of a module, with * for a number → style.
            heads: number of slices with equally many heads of attention that there can be.

        Raises:
            ModelError: a style is not implemented, or a matrix cannot be cut into equal slices.
        """
        found = [(name, module, style) for name, module in decoder.named_modules() if (style := _style(name, plan))]
        if not found:
            raise _refused(f"{type(decoder).__name__} has no plan in transformers")
        if heads % self.count:
            raise _refused(f"heads of attention (or of keys) are not {self.count} equal slices")
        for name, module, style in found:
            if style == COLUMNS:
                self._columns(name, module)
            elif style == ROWS:
                self._rows(name, module)
            elif style == PARTIAL:
                self.partial |= {id(weight) for weight in module.parameters()}
            else:
                raise _refused(f"{name} has the style {style}")

    def named(self, model: nn.Module) -> dict[str, tuple[Split | None, bool]]:
        """Name of a weight → its slice, and whether each process has a summand of its gradient; of those that are cut
        or have summands."""
        return {
            name: (self.split.get(id(weight)), id(weight) in self.partial)
            for name, weight in model.named_parameters()
            if id(weight) in self.split or id(weight) in self.partial
        }

    def head(self, head: nn.Linear, embedding: nn.Module) -> Columns | None:
        """Cuts the output head by tokens, and with it an embedding that is tied to it; None: the head stays whole,
        since its tokens have no equal slices."""
        rows = len(head.weight)
        if rows % self.count:
            return None
        tied = getattr(embedding, "weight", None) is head.weight
        self._cut(head, "weight", 0)
        if head.bias is not None:
            self._cut(head, "bias", 0)
        head.out_features = rows // self.count
        if tied:
            assert isinstance(embedding, nn.Embedding), "an embedding that is tied to a head"
            embedding.weight = head.weight
            self._divide_lookup(embedding, first=self.index * head.out_features, count=head.out_features)
        return Columns(self.index * head.out_features, head.out_features, rows, self.group)

    def _columns(self, name: str, module: nn.Module) -> None:
        base = _linear(name, module)
        self._cut(base, "weight", 0, name)
        if base.bias is not None:
            self._cut(base, "bias", 0, name)
        base.out_features //= self.count
        for low, high in _adapters(name, module):
            self.partial.add(id(low.weight))
            self._cut(high, "weight", 0, name)
        module.register_forward_pre_hook(lambda _, inputs: (self._enter(inputs[0]), *inputs[1:]))

    def _rows(self, name: str, module: nn.Module) -> None:
        base = _linear(name, module)
        if base.bias is not None:
            raise _refused(f"{name} is cut by rows and has a bias")
        self._cut(base, "weight", 1, name)
        base.in_features //= self.count
        for low, high in _adapters(name, module):
            self._cut(low, "weight", 1, name)
            self.partial.add(id(high.weight))
        module.register_forward_hook(lambda _, __, output: self._leave(output))

    def _enter(self, tensor: Tensor) -> Tensor:
        """The input of divided layers. Several with the same one (queries, keys, values) sum its gradient once."""
        if self._entered is None or self._entered[0] is not tensor:
            self._entered = tensor, _Enter.apply(tensor, self.group)
        return self._entered[1]

    def _leave(self, tensor: Tensor) -> Tensor:
        self._entered = None
        summed: Tensor = _Leave.apply(tensor, self.group)
        return summed

    def _divide_lookup(self, embedding: nn.Embedding, first: int, count: int) -> None:
        """Makes an embedding look up its own tokens, 0 for others, and sum over the processes."""
        own: list[Tensor] = []

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            index = inputs[0] - first
            own.append((index >= 0) & (index < count))
            return (torch.where(own[-1], index, 0), *inputs[1:])

        def after(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            summed: Tensor = _Leave.apply(output * own.pop()[..., None].to(output.dtype), self.group)
            return summed

        embedding.num_embeddings = count
        embedding.padding_idx = None
        embedding.register_forward_pre_hook(before)
        embedding.register_forward_hook(after)

    def _cut(self, module: nn.Module, attribute: str, dim: int, name: str = "lm_head") -> None:
        weight: nn.Parameter = getattr(module, attribute)
        if weight.shape[dim] % self.count:
            raise _refused(f"{name} has {weight.shape[dim]} outputs or inputs, which are not {self.count} equal slices")
        split = Split(dim, self.index, self.count, self.group.handle)
        cut = nn.Parameter(split.own(weight.detach()).clone(), requires_grad=weight.requires_grad)
        setattr(module, attribute, cut)
        self.split[id(cut)] = split


def _style(name: str, plan: Mapping[str, str]) -> str | None:
    return plan.get(re.sub(r"\d+", "*", name))


def _linear(name: str, module: nn.Module) -> nn.Linear:
    """The linear layer itself, below adapters."""
    if isinstance(module, LoraLayer):
        if module.lora_magnitude_vector or any(module.lora_bias.values()):
            raise _refused(f"{name} has an adapter with weights of a whole layer (DoRA, or a bias)")
        module = module.get_base_layer()
    if not isinstance(module, nn.Linear):
        raise _refused(f"{name} is a {type(module).__name__}")
    return module


def _adapters(name: str, module: nn.Module) -> Iterable[tuple[nn.Linear, nn.Linear]]:
    """The two factors of each adapter of a layer."""
    if not isinstance(module, LoraLayer):
        return []
    if module.lora_embedding_A or set(module.lora_A) != set(module.lora_B):
        raise _refused(f"{name} has an adapter of another kind than LoRA")
    return [(module.lora_A[adapter], module.lora_B[adapter]) for adapter in module.lora_A]


def _refused(given: str) -> ModelError:
    return ModelError(
        given=f"parallel.tensor: {given}",
        rule="layers are cut into equal slices by columns or by rows, as the plan of transformers for the model says",
        remedy="set parallel.tensor: 1 and use parallel.shard or parallel.data",
    )
