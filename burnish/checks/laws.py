"""Numerical checks: packed log-probabilities equal plain ones, and the gradient does not depend on microbatches.

The same invariants as in the project's tests, on the user's model and rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from burnish.checks.copies import difference, plain_logprobs_of
from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, CheckResult, checked, tolerance, type_name
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack, pack_singly
from burnish.train.step import Trainer
from burnish.types import Group, Microbatch, Score


def packed_equals_plain(subject: Subject) -> CheckResult:
    """Log-probabilities of all trained tokens are equal in one packed row and in separate forwards of transformers."""
    policy, groups = subject.trial(), subject.shared
    fault = _effect_of_another_row(policy, groups, subject.context.reader.max_positions)
    limit = tolerance(policy.causal_lm.dtype, fault)
    error = difference(_packed_logprobs(policy, groups), plain_logprobs_of(policy, groups))
    measured = (
        f"{error:.1e} nats between packed and plain, at most {limit:.2g} (rows that see each other: {fault:.2g}), "
        f"{_sizes(policy, groups)}"
    )
    if error <= limit and fault <= limit:
        return CheckResult(None, f"{measured}; this model depends on other rows too little to tell, try dtype=float32")
    return checked(
        error <= limit,
        measured,
        "packed rows see each other or have wrong positions, so training would be wrong; do not train: " + REPORT,
    )


def gradients_are_invariant(subject: Subject) -> CheckResult:
    """The gradient of a step is the same for every way of dividing its groups into microbatches."""
    policy, groups = subject.trial(), subject.shared
    limit = tolerance(policy.causal_lm.dtype)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    splits = dict(_splits(policy, groups, subject.tokens_per_microbatch))
    _, alone = splits.popitem()
    expected = _gradient(trainer, alone, groups, subject.loss)
    size = _norm(expected)
    errors = {
        name: _norm([a - b for a, b in zip(_gradient(trainer, split, groups, subject.loss), expected, strict=True)])
        / size
        for name, split in splits.items()
    }
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    dropout = ", dropout off" if subject.recipe.adapter.dropout else ""
    return checked(
        errors[worst] <= limit,
        f"{errors[worst]:.1e} of the gradient's norm ({worst}, against one response at a time), at most {limit:g}, "
        f"{_sizes(policy, groups)}{dropout}",
        "the division of a step into microbatches changes the gradient; a loss or denominator is not a sum over the "
        "step, or sequences see each other; do not train: " + REPORT,
    )


def _effect_of_another_row(policy: Model, groups: Sequence[Group], max_positions: int) -> float:
    """Mean change, nats, of the shortest response's log-probabilities with another row before its prompt.

    Infinite if the model has no positions for both.
    """
    group, before = min(groups, key=lambda candidate: candidate.num_tokens), groups[-1]
    room = max_positions - group.num_tokens
    if room <= 0:
        return math.inf
    # An image is there as a whole or not at all.
    room = min([room, *(medium.span[0] for medium in before.media if medium.span[1] > room)])
    others = torch.cat([before.prompt, before.responses[-1].tokens])[:room]
    shown = [medium for medium in before.media if medium.span[1] <= room]
    size = len(others)
    moved = [replace(medium, span=(medium.span[0] + size, medium.span[1] + size)) for medium in group.media]
    joined = replace(group, prompt=torch.cat([others, group.prompt]), media=(*shown, *moved), prompt_weights=None)
    return difference(plain_logprobs_of(policy, [joined]), plain_logprobs_of(policy, [group]))


def _packed_logprobs(policy: Model, groups: Sequence[Group]) -> list[Tensor]:
    """Log-probabilities of every response, computed as in training."""
    [microbatch] = policy.pack(groups, policy.num_tokens(groups))
    with torch.no_grad():
        logprob = policy.score(microbatch.to(policy.device), [Score.LOGPROB]).logprob
    assert logprob is not None, "the log-probability was requested"
    logprob = logprob[microbatch.response_positions.to(logprob.device) >= 0]  # learned turns before an image are prompt
    sizes = [int(response.trainable.sum()) for group in groups for response in group.responses]
    return list(logprob.double().split(sizes))


def _splits(policy: Model, groups: Sequence[Group], budget: int) -> Mapping[str, list[Microbatch]]:
    """Name -> the groups as microbatches; the last has every response alone with its prompt."""
    return {
        "all in one microbatch": policy.pack(groups, policy.num_tokens(groups)),
        f"tokens_per_microbatch={budget}": policy.pack(groups, budget),
        "the smallest microbatches": policy.pack(groups, 1),
        "accumulated group by group": [
            part for i, group in enumerate(groups) for part in policy.pack([group], budget, i)
        ],
        "prompts not shared": pack(groups, policy.num_tokens(groups), share=False),
        "alone": pack_singly(groups),
    }


def _gradient(trainer: Trainer, split: Sequence[Microbatch], groups: Sequence[Group], loss: Loss) -> list[Tensor]:
    """Gradient of every trained parameter over the whole step."""
    masters = trainer.optimizer.masters.masters
    for master in masters:
        master.grad = None
    denominators = count_denominators(groups)
    trainer.accumulate(split, loss, denominators)
    return [torch.zeros_like(master) if master.grad is None else master.grad for master in masters]


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _sizes(policy: Model, groups: Sequence[Group]) -> str:
    responses = sum(len(group.responses) for group in groups)
    return f"{type_name(policy.causal_lm.dtype)}, {responses} responses, {policy.num_tokens(groups):,} tokens"
