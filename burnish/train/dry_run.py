"""Dry run before the first step: a lack of memory shows at once, not after hours.

Forward and backward pass of the largest microbatch of the run, while as much memory is reserved as the optimizer will
take. It leaves no gradient, no state, and the random generators as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch

from burnish.losses.base import Loss
from burnish.packing import count_denominators
from burnish.parallel.world import ONE_PROCESS
from burnish.train.step import Trainer, measure
from burnish.types import Group


def costliest(groups: Sequence[Group], budget: int, max_groups: int) -> list[Group]:
    """Groups of the largest microbatch: the longest group, and the longest others that fit.

    Args:
        groups: groups that may be in one microbatch; repeated groups are repeated here.
        budget: maximum number of tokens of a microbatch; a longer group is alone in one.
        max_groups: number of groups of one step.
    """
    chosen: list[Group] = []
    size = 0
    for group in sorted(groups, key=lambda group: -group.num_tokens):
        if len(chosen) < max_groups and (not chosen or size + group.num_tokens <= budget):
            chosen.append(group)
            size += group.num_tokens
    return chosen


def dry_run(trainer: Trainer, groups: Sequence[Group], loss: Loss, budget: int) -> None:
    """Computes the groups' gradient twice, the second time with the gradients of the first in memory, and drops it.
    Every process computes all of it, since any of them may get the largest microbatch.

    Raises:
        torch.OutOfMemoryError: (or what the device raises) it does not fit.
    """
    device, alone = trainer.policy.device, replace(trainer, world=ONE_PROCESS)
    denominators = count_denominators(groups)
    microbatches = trainer.policy.pack(groups, budget)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stack.callback(trainer.optimizer.clear)
        # A loss may take constants from groups that are only scored; any groups will do here.
        loss = measure(trainer.policy, loss, (replace(group, scored_only=True) for group in groups), budget)
        reserved = torch.empty(trainer.optimizer.pending_state_bytes(), dtype=torch.uint8, device=device)
        for _ in range(2):
            alone.accumulate(microbatches, loss, denominators)
        del reserved
