"""One training step: forward_backward for every microbatch, then optim_step. The trainer knows no method by name.

Stands after the loss and before the checkpoint. The law that it keeps: the same groups give the same update under any
split into microbatches. So losses return sums, the denominators are counted over the whole step before its first
forward, and each sum is divided once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.losses import Loss
from burnish.model.noise import Neftune
from burnish.model.policy import Policy
from burnish.optim import Optimizer
from burnish.packing import count_denominators
from burnish.types import Component, Denominator, Denominators, Group, LossOutput, Microbatch

Sums = dict[str, Tensor]
"""Name → already divided scalar on the device; reading one waits for the device."""


@dataclass(frozen=True, eq=False, slots=True)
class Trainer:
    """The policy with its optimiser. Two verbs, and the step that is made of them."""

    policy: Policy
    optimizer: Optimizer
    clip: float | None = 1.0
    """Largest norm of all gradients together; None: no clipping."""
    neftune: Neftune | None = None
    """Noise on the embeddings of training; None: none."""

    def forward_backward(self, microbatch: Microbatch, loss: Loss, denominators: Denominators) -> Sums:
        """Adds the microbatch's share of the step's gradient.

        Returns:
            Its share of the loss, of each of its terms if there are several, and of what the loss watches; detached.
        """
        output = evaluate_loss(self.policy, microbatch, loss, denominators)
        total = sum_terms(output, denominators)
        total.backward()
        return reported(output, total, denominators)

    def optim_step(self, factor: float) -> Tensor:
        """Updates the weights at `factor` times the learning rate; returns the gradient's norm before clipping."""
        return self.optimizer.step(factor, self.clip)

    def step(self, groups: Sequence[Group], loss: Loss, budget: int, factor: float) -> Sums:
        """One optimiser step on the groups: count, pack, forward_backward for each microbatch, optim_step."""
        denominators = count_denominators(groups)
        sums: Sums = {}
        for microbatch in self._pack(groups, budget):
            add(sums, self.forward_backward(microbatch.to(self.policy.device), loss, denominators))
        sums["grad_norm"] = self.optim_step(factor)
        return sums

    def _pack(self, groups: Sequence[Group], budget: int) -> list[Microbatch]:
        microbatches = self.policy.pack(groups, budget)
        return microbatches if self.neftune is None else self.neftune.on(microbatches, self.optimizer.updates)


def evaluate_loss(policy: Policy, microbatch: Microbatch, loss: Loss, denominators: Denominators) -> LossOutput:
    """Scores the microbatch as the loss needs it and applies the loss; with gradients if they are enabled."""
    scores = policy.score(microbatch, loss.needs, coefficients=loss.coefficients(microbatch, denominators))
    return loss(scores, microbatch)


def sum_terms(output: LossOutput, denominators: Denominators) -> Tensor:
    """The microbatch's share of the step's loss: every sum divided by its count over the step."""
    return torch.stack([_share(component, denominators) for component in output.terms.values()]).sum()


def reported(output: LossOutput, total: Tensor, denominators: Denominators) -> Sums:
    """What is logged of a microbatch: shares that add up to the step's figures. A single term is the loss itself."""
    terms = output.terms if len(output.terms) > 1 else {}
    shares = {name: _share(component, denominators) for name, component in {**terms, **output.watched}.items()}
    return {name: value.detach() for name, value in {**shares, "loss": total}.items()}


def add(sums: Sums, more: Mapping[str, Tensor]) -> None:
    """Adds figures of a further microbatch in place, without waiting for the device."""
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def _share(component: Component, denominators: Mapping[Denominator, float]) -> Tensor:
    """An empty denominator gives 0, and keeps the graph."""
    count = denominators[component.denominator]
    return component.total / count if count else component.total * 0.0
