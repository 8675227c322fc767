"""The loss on held-out groups, by the same packing and scoring as training. Stands beside the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from burnish.evaluate.examiner import Findings
from burnish.losses import Loss
from burnish.model.policy import Policy
from burnish.packing import count_denominators
from burnish.step import Sums, add, evaluate_loss, reported, sum_terms
from burnish.types import Denominator, Group

GROUPS_AT_ONCE = 256
"""Groups that are packed together; bounds the memory of packing, not the result."""


@dataclass(frozen=True, eq=False, slots=True)
class HeldOutLoss:
    """The examiner that a stage with held-out data has. Example: ``HeldOutLoss(groups, CrossEntropy(), 4096)``."""

    rows: Sequence[Group]
    """At least one."""
    loss: Loss
    """What the stage minimises."""
    budget: int
    """Most tokens of a microbatch."""

    def examine(self, policy: Policy) -> Findings:
        """The loss and its terms, named as in training."""
        return Findings(held_out_loss(policy, self.rows, self.loss, self.budget))


@torch.no_grad()
def held_out_loss(policy: Policy, rows: Sequence[Group], loss: Loss, budget: int) -> Sums:
    """The loss over all rows as one step would compute it, without gradients and with dropout off.

    Returns:
        Scalars on the device, named as in training. The model's mode is kept.
    """
    was_training = policy.model.training
    policy.model.eval()
    blocks = [range(start, min(start + GROUPS_AT_ONCE, len(rows))) for start in range(0, len(rows), GROUPS_AT_ONCE)]
    denominators = dict.fromkeys(Denominator, 0.0)
    for block in blocks:
        for name, count in count_denominators([rows[i] for i in block]).items():
            denominators[name] += count
    sums: Sums = {}
    for block in blocks:
        for microbatch in policy.pack([rows[i] for i in block], budget):
            output = evaluate_loss(policy, microbatch.to(policy.device), loss, denominators)
            add(sums, reported(output, sum_terms(output, denominators), denominators))
    policy.model.train(was_training)
    return sums
