"""One role's optimiser: the libraries' update of its weights, with clipping, and the weights that are to be used.

Stands beside `step`. The optimisers are libraries'; ours are the choice of parameters for each, float32 twins of narrow
weights or stochastic rounding, and the average.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from burnish.errors import RecipeError
from burnish.optim.average import Average
from burnish.optim.libraries import FACTOR, Member, build, page_again
from burnish.optim.masters import Masters
from burnish.optim.settings import KINDS, PAGED, OptimizerSettings


class Optimizer:
    """One role's optimiser: its masters, its libraries' optimisers, and clipping."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        settings: OptimizerSettings,
        embedding_like: Iterable[nn.Parameter] = (),
        factors: Mapping[str, float] | None = None,
        undecayed: Collection[str] = (),
    ) -> None:
        """
        Args:
            named_parameters: the trained parameters.
            settings: which optimiser, and how.
            embedding_like: embedding and head, which Muon leaves to AdamW.
            factors: of the learning rate, by the name of a trained parameter (see `rates`); a name that is not in it
                has the factor 1. None: all have.
            undecayed: names of matrices that do not decay; vectors never do.

        Raises:
            RecipeError: the library, or the device that it needs, is not there; or nothing is to be rounded.
        """
        named = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.settings = settings
        self.masters = Masters((parameter for _, parameter in named), _rounding(named, settings))
        outside, rates = {id(parameter) for parameter in embedding_like}, factors or {}
        members = [
            Member(
                weight=master,
                is_inner=master.ndim == 2 and id(parameter) not in outside,
                decays=master.ndim >= 2 and name not in undecayed,
                factor=rates.get(name, 1.0),
            )
            for (name, parameter), master in zip(named, self.masters.masters, strict=True)
        ]
        self.libraries = build(members, settings)
        self.average = None if settings.ema_decay is None else Average(self.masters.weights, settings.ema_decay)
        self.updates = 0
        """Updates done; what is drawn by chance in a step may be drawn from its number."""

    def step(self, factor: float, max_grad_norm: float | None) -> Tensor:
        """One update at `factor` times the learning rate. Gradients are cleared.

        Returns:
            The norm of all gradients before clipping, a scalar tensor on the device (reading it would wait for it).
        """
        parameters = [p for p in self.masters.masters if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
        for library in self.libraries:
            for group in library.param_groups:
                group["lr"] = factor * self.settings.learning_rate * group[FACTOR]
        for _ in self.masters.turns():
            for library in self.libraries:
                library.step()
        self.clear()
        self.masters.publish()
        self.updates += 1
        if self.average is not None:
            self.average.update(self.masters.weights, self.updates)
        return norm

    def clear(self) -> None:
        """Drops all gradients."""
        for master in self.masters.masters:
            master.grad = None

    def bytes_to_come(self) -> int:
        """Memory that the libraries will take for their states with the first step; 0 after it."""
        if any(state for library in self.libraries for state in library.state.values()):
            return 0
        return round(KINDS[self.settings.kind].state_bytes * sum(p.numel() for p in self.masters.parameters))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the model has the weights that are evaluated and saved: the average, where one is kept.

        Afterwards it has those of training again, bit for bit. Takes the memory of the trained weights once more, if
        the two differ.
        """
        if self.average is None and self.settings.kind != "schedule_free":
            yield
            return
        before = [weight.detach().clone() for weight in self.masters.weights]
        self._use_average()
        try:
            yield
        finally:
            if self.average is None:
                _switch(self.libraries, to_training=True)
            _copy(before, self.masters.weights)
            self.masters.publish()

    def _use_average(self) -> None:
        if self.average is not None:
            _copy(self.average.values, self.masters.parameters)
        else:
            _switch(self.libraries, to_training=False)
            self.masters.publish()

    def memory(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """What the next steps depend on beside weights and libraries: named tensors (not copies), and values."""
        tensors: dict[str, Tensor] = {}
        if self.average is not None:
            tensors |= {f"average/{name}": v for name, v in zip(self.names, self.average.values, strict=True)}
        if self.masters.rounding is not None:
            tensors["rounding"] = self.masters.rounding.get_state()
        return tensors, {"updates": self.updates}

    def remember(self, tensors: Mapping[str, Tensor], values: Mapping[str, int]) -> None:
        """Puts back what `memory` gave, into an optimiser with the same settings whose libraries have their states."""
        if self.settings.kind in PAGED:
            for library in self.libraries:
                page_again(library)
        if self.average is not None:
            _copy([tensors[f"average/{name}"] for name in self.names], self.average.values)
        if self.masters.rounding is not None:
            self.masters.rounding.set_state(tensors["rounding"].cpu())
        self.updates = values["updates"]


def _rounding(named: list[tuple[str, nn.Parameter]], settings: OptimizerSettings) -> torch.Generator | None:
    """The chance of stochastic rounding, on the device of the weights."""
    if not settings.stochastic_rounding:
        return None
    if not any(parameter.dtype == torch.bfloat16 for _, parameter in named):
        raise RecipeError(
            given="optimizer.stochastic_rounding, and no trained weight is bfloat16",
            rule="what is rounded by chance are updates of bfloat16 weights; adapters are float32 already",
            remedy="set dtype: bfloat16, or leave it out",
        )
    [device] = {parameter.device for _, parameter in named}
    return torch.Generator(device).manual_seed(settings.seed)


@torch.no_grad()
def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _switch(libraries: list[torch.optim.Optimizer], *, to_training: bool) -> None:
    """Turns the weights of the schedule-free optimiser into those of training, or into their average."""
    for library in libraries:
        switch = library.train if to_training else library.eval  # type: ignore[attr-defined]
        switch()
