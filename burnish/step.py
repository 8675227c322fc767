"""One training step: forward_backward for every microbatch, then optim_step. The trainer knows no method by name.

Stands after the loss and before the checkpoint. The law that it keeps: the same groups give the same update under any
split into microbatches. So losses return sums, the denominators are counted over the whole step before its first
forward, and each sum is divided once. What a loss must see at once (`Loss.scope`) it sees: where microbatches have cut
it, all of it is scored first, the loss evaluated on the joined scores, and each microbatch goes backwards with the
gradient per token that came out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.losses.base import AdaptiveLoss, Loss, has_signal
from burnish.model.noise import Neftune
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.packing import count_denominators, join
from burnish.types import Denominator, Denominators, Group, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores

Sums = dict[str, Tensor]
"""Name → already divided scalar on the device; reading one waits for the device."""


@dataclass(frozen=True, eq=False, slots=True)
class Trainer:
    """The policy with its optimiser. Two verbs, and the step that is made of them."""

    policy: Model
    optimizer: Optimizer
    max_grad_norm: float | None = 1.0
    """Largest norm of all gradients together; None: no clipping."""
    neftune: Neftune | None = None
    """Noise on the embeddings of training; None: none."""

    def forward_backward(self, microbatch: Microbatch, loss: Loss, denominators: Denominators) -> Sums:
        """Adds the microbatch's share of the step's gradient. The microbatch has all that the loss must see at once.

        Returns:
            Its share of the loss, of each of its terms if there are several, and of what the loss watches; detached.
        """
        output = evaluate_loss(self.policy, microbatch, loss, denominators)
        total = sum_terms(output, denominators)
        total.backward()
        return reported(output, total, denominators)

    def forward_backward_joined(
        self, microbatches: Sequence[Microbatch], loss: Loss, denominators: Denominators
    ) -> Sums:
        """As `forward_backward`, for microbatches that have only together what the loss must see at once.

        One more forward of each: all are scored, then the loss is evaluated on the joined scores, then each goes
        backwards with its coefficients. (Scores with dropout would differ between the two forwards.)
        """
        scores, joined = score_joined(self.policy, microbatches, loss.needs)
        sums, coefficients = differentiate(scores, joined, loss, denominators)
        sizes = [len(microbatch.predictor_positions) for microbatch in microbatches]
        pieces = {kind: each.split(sizes) for kind, each in coefficients.items()}
        for index, microbatch in enumerate(microbatches):
            known = {kind: piece[index] for kind, piece in pieces.items()}
            self._backward_fixed(microbatch.to(self.policy.device), known)
        return sums

    def _backward_fixed(self, microbatch: Microbatch, coefficients: Mapping[Score, Tensor]) -> None:
        scores = self.policy.score(microbatch, coefficients.keys(), coefficients=coefficients)
        terms = [(known * scores.of(kind)).sum() for kind, known in coefficients.items()]
        torch.stack(terms).sum().backward()

    def accumulate(self, microbatches: Sequence[Microbatch], loss: Loss, denominators: Denominators) -> Sums:
        """The gradient of a whole step from its microbatches, in whatever way they were cut."""
        sums: Sums = {}
        alone, cut = divide(microbatches, loss.scope)
        for microbatch in alone:
            add(sums, self.forward_backward(microbatch.to(self.policy.device), loss, denominators))
        if cut:
            add(sums, self.forward_backward_joined(cut, loss, denominators))
        return sums

    def optim_step(self, factor: float) -> Tensor:
        """Updates the weights at `factor` times the learning rate; returns the gradient's norm before clipping."""
        return self.optimizer.step(factor, self.max_grad_norm)

    def leave_weights(self) -> Sums:
        """The end of a step that teaches nothing, in the place of optim_step: decay and momentum would move weights
        that nothing is to move. Drops the gradients, which are 0; weights and optimizer stay bit for bit.

        Returns:
            The norm, and a figure that says so.
        """
        self.optimizer.clear()
        return {"grad_norm": torch.zeros(()), "skipped": torch.ones(())}

    def step(self, groups: Sequence[Group], loss: Loss, budget: int, factor: float) -> Sums:
        """One optimiser step on the groups: measure, count, pack, forward_backward for each microbatch, optim_step; or
        leave_weights, where no token of the step has a signal. A loss that adapts is told of it."""
        trained = [group for group in groups if not group.scored_only]
        informed = measure(self.policy, loss, (group for group in groups if group.scored_only), budget)
        sums = self.accumulate(self._pack(trained, budget), informed, count_denominators(trained))
        sums |= {"grad_norm": self.optim_step(factor)} if has_signal(informed, trained) else self.leave_weights()
        if isinstance(loss, AdaptiveLoss):
            reports = loss.observe(sums).items()
            sums |= {name: torch.tensor(value, device=self.policy.device) for name, value in reports}
        return sums

    def _pack(self, groups: Sequence[Group], budget: int) -> list[Microbatch]:
        microbatches = self.policy.pack(groups, budget)
        return microbatches if self.neftune is None else self.neftune.on(microbatches, self.optimizer.updates)


def divide(microbatches: Sequence[Microbatch], scope: Scope) -> tuple[list[Microbatch], list[Microbatch]]:
    """Those that have all that a loss of this scope must see at once, and those that have it only together."""
    if scope is Scope.SEQUENCE or (len(microbatches) == 1 and microbatches[0].groups_complete):
        return list(microbatches), []
    if scope is Scope.STEP:
        return [], list(microbatches)
    return [m for m in microbatches if m.groups_complete], [m for m in microbatches if not m.groups_complete]


def measure(policy: Model, loss: Loss, measured: Iterable[Group], budget: int) -> Loss:
    """The loss with what it takes from the groups that are only measured; they are scored here, without gradient."""
    groups = list(measured)
    return loss.with_measurements(*score_joined(policy, policy.pack(groups, budget), loss.needs)) if groups else loss


@torch.no_grad()
def score_joined(
    policy: Model, microbatches: Sequence[Microbatch], needs: Collection[Score]
) -> tuple[TokenScores, Microbatch]:
    """All of them scored, one after the other, as if they were one microbatch; on the policy's device."""
    parts = [policy.score(microbatch.to(policy.device), needs) for microbatch in microbatches]
    joined = TokenScores(**{kind.value: torch.cat([part.of(kind) for part in parts]) for kind in needs})
    return joined, join(microbatches).to(policy.device)


def differentiate(
    scores: TokenScores, microbatch: Microbatch, loss: Loss, denominators: Denominators
) -> tuple[Sums, dict[Score, Tensor]]:
    """What is reported of the loss, and [S] per needed score the gradient of the step's loss with respect to it."""
    leaves = {kind: scores.of(kind).detach().requires_grad_() for kind in loss.needs}
    with torch.enable_grad():
        output = loss(TokenScores(**{kind.value: leaf for kind, leaf in leaves.items()}), microbatch)
        total = sum_terms(output, denominators)
        # A score that the loss only looks at (a detached weight) has no gradient: it needs no backward.
        found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    known = {kind: gradient for kind, gradient in zip(leaves, found, strict=True) if gradient is not None}
    return reported(output, total, denominators), known


def evaluate_loss(policy: Model, microbatch: Microbatch, loss: Loss, denominators: Denominators) -> LossOutput:
    """Scores the microbatch as the loss needs it and applies the loss; with gradients if they are enabled."""
    scores = policy.score(microbatch, loss.needs, coefficients=loss.score_gradients(microbatch, denominators))
    return loss(scores, microbatch)


def sum_terms(output: LossOutput, denominators: Denominators) -> Tensor:
    """The microbatch's share of the step's loss: every sum divided by its count over the step."""
    return torch.stack([_share(component, denominators) for component in output.terms.values()]).sum()


def reported(output: LossOutput, total: Tensor, denominators: Denominators) -> Sums:
    """What is logged of a microbatch: shares that add up to the step's figures. A single term is the loss itself."""
    terms = output.terms if len(output.terms) > 1 else {}
    shares = {name: _share(component, denominators) for name, component in {**terms, **output.metrics}.items()}
    return {name: value.detach() for name, value in {**shares, "loss": total}.items()}


def add(sums: Sums, more: Mapping[str, Tensor]) -> None:
    """Adds figures of a further microbatch in place, without waiting for the device."""
    for name, value in more.items():
        sums[name] = sums[name] + value if name in sums else value


def _share(component: LossTerm, denominators: Mapping[Denominator, float]) -> Tensor:
    """An empty denominator gives 0, and keeps the graph."""
    count = denominators[component.denominator]
    return component.total / count if count else component.total * 0.0
