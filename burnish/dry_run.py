"""A rehearsal before the first step: what does not fit into memory fails at once, not after hours.

Beside the step. The costliest microbatch that the run can meet goes forwards and backwards, beside as much memory as
the optimiser will take; what it leaves behind is nothing: no gradient, no state, no number drawn by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch

from burnish.losses.base import Loss
from burnish.packing import count_denominators
from burnish.step import Trainer, measure
from burnish.types import Group


def costliest(groups: Sequence[Group], budget: int, most: int) -> list[Group]:
    """What makes the largest microbatch: the longest group, and the longest others that fit beside it.

    Args:
        groups: those that may meet, each as often as it is there.
        budget: most tokens of a microbatch; a longer group is alone.
        most: groups of one step.
    """
    chosen: list[Group] = []
    size = 0
    for group in sorted(groups, key=lambda group: -group.num_tokens):
        if len(chosen) < most and (not chosen or size + group.num_tokens <= budget):
            chosen.append(group)
            size += group.num_tokens
    return chosen


def dry_run(trainer: Trainer, groups: Sequence[Group], loss: Loss, budget: int) -> None:
    """Computes the groups' gradient twice, the second time beside the gradients of the first, and drops it.

    Raises:
        torch.OutOfMemoryError: (or what the device raises) it does not fit.
    """
    device = trainer.policy.device
    denominators = count_denominators(groups)
    microbatches = trainer.policy.pack(groups, budget)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stack.callback(trainer.optimizer.clear)
        # A loss may take constants from groups that are only measured; any will do here.
        loss = measure(trainer.policy, loss, (replace(group, scored_only=True) for group in groups), budget)
        reserved = torch.empty(trainer.optimizer.bytes_to_come(), dtype=torch.uint8, device=device)
        for _ in range(2):
            trainer.accumulate(microbatches, loss, denominators)
        del reserved
