"""The loss on held-out groups, by the same packing and scoring as training. Stands beside the loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from burnish.evaluate.evaluator import EvalResult
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.packing import count_denominators
from burnish.step import Sums, add, divide, evaluate_loss, measure, reported, score_joined, sum_terms
from burnish.types import Denominator, Group, Microbatch, Scope

GROUPS_AT_ONCE = 256
"""Groups that are packed together; bounds the memory of packing, not the result."""


@dataclass(frozen=True, eq=False, slots=True)
class HeldOutLoss:
    """The evaluator that a stage with held-out data has. Example: ``HeldOutLoss(groups, CrossEntropy(), 4096)``."""

    rows: Sequence[Group]
    """At least one."""
    loss: Loss
    """What the stage minimises."""
    budget: int
    """Most tokens of a microbatch."""

    def evaluate(self, policy: Model) -> EvalResult:
        """The loss and its terms, named as in training."""
        return EvalResult(held_out_loss(policy, self.rows, self.loss, self.budget))


@torch.no_grad()
def held_out_loss(policy: Model, rows: Sequence[Group], loss: Loss, budget: int) -> Sums:
    """The loss over all rows as one step would compute it, without gradients and with dropout off.

    What the loss takes from measured groups, it takes from those among all rows. A loss that must see the whole step at
    once sees all rows: their scores are kept until then.

    Returns:
        Scalars on the device, named as in training. The model's mode is kept.
    """
    was_training = policy.model.training
    policy.model.eval()
    denominators = dict.fromkeys(Denominator, 0.0)
    measured: list[Group] = []
    for _, block in _blocks(rows):
        measured += [group for group in block if group.scored_only]
        for name, count in count_denominators(block).items():
            denominators[name] += count
    loss = measure(policy, loss, measured, budget)
    sums: Sums = {}
    cut: list[Microbatch] = []
    for start, block in _blocks(rows):
        trained = [group for group in block if not group.scored_only]
        packed = policy.pack(trained, budget, start)
        alone, rest = ([], packed) if loss.scope is Scope.STEP else divide(packed, loss.scope)
        cut += rest
        for microbatch in alone:
            output = evaluate_loss(policy, microbatch.to(policy.device), loss, denominators)
            add(sums, reported(output, sum_terms(output, denominators), denominators))
    if cut:
        output = loss(*score_joined(policy, cut, loss.needs))
        add(sums, reported(output, sum_terms(output, denominators), denominators))
    policy.model.train(was_training)
    return sums


def _blocks(rows: Sequence[Group]) -> Iterator[tuple[int, list[Group]]]:
    """Index of the first row, and the rows, of each block. Rows are made when they are asked for."""
    for start in range(0, len(rows), GROUPS_AT_ONCE):
        yield start, [rows[i] for i in range(start, min(start + GROUPS_AT_ONCE, len(rows)))]
