"""Placement of a model of whose weights this process has parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from burnish.parallel.columns import Columns
from burnish.parallel.part import Part, own_tensor
from burnish.parallel.placement import Placement


class Divided(Placement):
    """Placement of a model with weights of which this process has a part."""

    is_divided = True

    def __init__(self, model: nn.Module, parts: Mapping[str, Part], columns: Columns | None = None) -> None:
        """
        Args:
            model: the model, as `Model.model`.
            parts: of its weights by name; of those that are divided, or of whose gradient processes have summands.
            columns: see `Placement.columns`.
        """
        self._parts, self.columns = parts, columns
        self.places = dict(_places(model, [name for name, part in parts.items() if not part.is_whole]))
        """Name → weight, and every module and attribute that has it (a tied weight has several)."""

    def part(self, name: str) -> Part:
        return self._parts.get(name) or super().part(name)

    @contextmanager
    def whole(self, *, here: bool) -> Iterator[None]:
        copies: dict[str, nn.Parameter] = {}
        for name, (weight, _) in self.places.items():
            tensor = self._parts[name].whole(own_tensor(weight))
            if here:
                copies[name] = nn.Parameter(tensor.cpu(), requires_grad=weight.requires_grad)
        try:
            for name, copy in copies.items():
                self._put(name, copy)
            yield
        finally:
            for name in copies:
                self._put(name, self.places[name][0])

    def _put(self, name: str, weight: nn.Parameter) -> None:
        """Registers the weight wherever that of the name is."""
        for module, attribute in self.places[name][1]:
            module._parameters[attribute] = weight


def _places(
    model: nn.Module, names: Iterable[str]
) -> Iterator[tuple[str, tuple[nn.Parameter, list[tuple[nn.Module, str]]]]]:
    found: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for attribute, weight in module._parameters.items():
            if weight is not None:
                found.setdefault(weight, []).append((module, attribute))
    named = dict(model.named_parameters())
    return ((name, (named[name], found[named[name]])) for name in names)
