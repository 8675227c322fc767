"""Evaluator of the loss on held-out groups, by the same packing and scoring as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from burnish.evaluate.evaluator import EvalResult
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.packing import count_denominators
from burnish.parallel.world import ONE_PROCESS, World
from burnish.train.step import Sums, add, divide, evaluate_loss, measure, reported, score_joined, sum_terms
from burnish.types import Denominator, Group, Microbatch, Scope
from burnish.watch.parts import OnPart, no_report

GROUPS_AT_ONCE = 256
"""Number of groups that are packed together; it bounds the memory of packing and does not change the result."""


@dataclass(frozen=True, eq=False, slots=True)
class HeldOutLoss:
    """Evaluator of the held-out loss. Example: ``HeldOutLoss(groups, CrossEntropy(), 4096)``."""

    rows: Sequence[Group]
    """At least one."""
    loss: Loss
    """Loss of the stage."""
    budget: int
    """Limit of a microbatch, tokens."""
    world: World = ONE_PROCESS
    """Processes that share the microbatches."""

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """The loss and its terms, named as in training."""
        return EvalResult(held_out_loss(policy, self.rows, self.loss, self.budget, self.world, on_part))


@torch.no_grad()
def held_out_loss(
    policy: Model,
    rows: Sequence[Group],
    loss: Loss,
    budget: int,
    world: World = ONE_PROCESS,
    on_part: OnPart = no_report,
) -> Sums:
    """The loss over all rows as one step would compute it, without gradients and with dropout off.

    Constants that the loss takes from measured groups are computed over all rows. A loss with the scope of a whole step
    sees all rows at once: their scores are kept until then. Of several processes, all give all rows and get the loss
    over all.

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
    loss = measure(policy, loss, measured, budget, world)
    sums: Sums = {}
    joined: list[Microbatch] = []
    for start, block in _blocks(rows):
        trained = [group for group in block if not group.scored_only]
        packed = policy.pack(trained, budget, start)
        alone, rest = ([], packed) if loss.scope is Scope.STEP else divide(packed, loss.scope)
        joined += rest
        own, others = world.share_evenly(alone)
        for number, microbatch in enumerate(own):
            on_part("held-out rows", start + len(block) * number // len(own), len(rows))
            output = evaluate_loss(policy, microbatch.to(policy.device), loss, denominators)
            add(sums, reported(output, sum_terms(output, denominators), denominators))
        for microbatch in others:
            policy.score(microbatch.to(policy.device), loss.needs)
    sums = world.sum(sums)
    if joined:
        output = loss(*score_joined(policy, joined, loss.needs, world))
        add(sums, reported(output, sum_terms(output, denominators), denominators))
    policy.model.train(was_training)
    return sums


def _blocks(rows: Sequence[Group]) -> Iterator[tuple[int, list[Group]]]:
    """Index of the first row and the rows of each block. Rows are made on access."""
    for start in range(0, len(rows), GROUPS_AT_ONCE):
        yield start, [rows[i] for i in range(start, min(start + GROUPS_AT_ONCE, len(rows)))]
