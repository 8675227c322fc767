"""Optimizer of one trained model: gradient clipping, the libraries' updates, and the weights for evaluation.

Update rules are those of libraries; this module chooses the parameters of each, and adds float32 master weights or
stochastic rounding, and the moving average.
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
from burnish.parallel.placement import PLACED, Placement
from burnish.parallel.world import ONE_PROCESS, World


class Optimizer:
    """Optimizer of one trained model: master weights, the libraries' optimizers, clipping, and the average."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        settings: OptimizerSettings,
        embedding_like: Iterable[nn.Parameter] = (),
        factors: Mapping[str, float] | None = None,
        undecayed: Collection[str] = (),
        placement: Placement = PLACED,
    ) -> None:
        """
        Args:
            named_parameters: the trained parameters.
            settings: the optimizer's settings.
            embedding_like: embedding and head, which Muon leaves to AdamW.
            factors: learning-rate factors by the name of a trained parameter (see `rates`); other names have the
                factor 1. None: all have.
            undecayed: names of matrices without weight decay; vectors never have any.
            placement: where the parameters are.

        Raises:
            RecipeError: the library is not installed, its device is missing, or there is nothing to round.
        """
        named = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.settings, self._placement = settings, placement
        parts = [placement.part(name) for name in self.names]
        self.masters = Masters((parameter for _, parameter in named), _rounding(named, settings), parts)
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
        """Number of updates done; random draws of a step may use it as a seed."""

    def sum_gradients(self, world: World) -> None:
        """Replaces the gradients of a step by their sums over the processes of the world."""
        unused = self._placement.take_unused()
        there = [
            master.grad is not None and name not in unused
            for name, master in zip(self.names, self.masters.masters, strict=True)
        ]
        world.sum_gradients(self.masters.masters, self.masters.parts, there)

    def step(self, factor: float, max_grad_norm: float | None, world: World = ONE_PROCESS) -> Tensor:
        """Updates the weights at `factor` times the learning rate, and clears the gradients.

        Args:
            factor: the schedule's factor of the step.
            max_grad_norm: maximum norm of all gradients together; None: no clipping.
            world: processes that have these gradients.

        Returns:
            The norm of all gradients before clipping, a scalar tensor on the device (reading it waits for the device).
        """
        parameters = [p for p in self.masters.masters if p.grad is not None]
        norm = world.grad_norm(self.masters.masters, self.masters.parts)
        if max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
        for library in self.libraries:
            for group in library.param_groups:
                group["lr"] = factor * self.settings.learning_rate * group[FACTOR]
        for _ in self.masters.update_chunks():
            for library in self.libraries:
                library.step()
        self.clear()
        self.masters.write_back()
        self.updates += 1
        if self.average is not None:
            self.average.update(self.masters.weights, self.updates)
        return norm

    def clear(self) -> None:
        """Drops all gradients."""
        for master in self.masters.masters:
            master.grad = None

    def pending_state_bytes(self) -> int:
        """Bytes that the libraries' states will take at the first step; 0 after it."""
        if any(state for library in self.libraries for state in library.state.values()):
            return 0
        return round(KINDS[self.settings.kind].state_bytes * sum(p.numel() for p in self.masters.parameters))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Context manager with the weights for evaluation and saving: the average, if one is kept.

        Afterwards the training weights are restored, bit for bit. If the two differ, this takes the memory of the
        trained weights once more.
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
            self.masters.write_back()

    def _use_average(self) -> None:
        if self.average is not None:
            _copy(self.average.values, self.masters.parameters)
        else:
            _switch(self.libraries, to_training=False)
            self.masters.write_back()

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """State in addition to weights and libraries' states: named tensors (not copies), and values."""
        tensors: dict[str, Tensor] = {}
        if self.average is not None:
            tensors |= {f"average/{name}": v for name, v in zip(self.names, self.average.values, strict=True)}
        if self.masters.rounding is not None:
            tensors["rounding"] = self.masters.rounding.get_state()
        return tensors, {"updates": self.updates}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, int]) -> None:
        """Restores the result of `memory`, in an optimizer with the same settings and restored library states."""
        if self.settings.kind in PAGED:
            for library in self.libraries:
                page_again(library)
        if self.average is not None:
            _copy([tensors[f"average/{name}"] for name in self.names], self.average.values)
        if self.masters.rounding is not None:
            self.masters.rounding.set_state(tensors["rounding"].cpu())
        self.updates = values["updates"]


def _rounding(named: list[tuple[str, nn.Parameter]], settings: OptimizerSettings) -> torch.Generator | None:
    """Generator of stochastic rounding on the device of the weights; None: no stochastic rounding."""
    if not settings.stochastic_rounding:
        return None
    if not any(parameter.dtype == torch.bfloat16 for _, parameter in named):
        raise RecipeError(
            given="optimizer.stochastic_rounding, and no trained weight is bfloat16",
            rule="stochastic rounding is for updates of bfloat16 weights; adapters are float32",
            remedy="set dtype: bfloat16, or leave it out",
        )
    [device] = {parameter.device for _, parameter in named}
    return torch.Generator(device).manual_seed(settings.seed)


@torch.no_grad()
def _copy(sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)


def _switch(libraries: list[torch.optim.Optimizer], *, to_training: bool) -> None:
    """Switches the schedule-free optimizer's weights to those of training, or to their average."""
    for library in libraries:
        switch = library.train if to_training else library.eval  # type: ignore[attr-defined]
        switch()
