"""Checks of the arithmetic: packed equals plain, and no split, packing or sharing changes the gradient.

The same laws as in the project's tests, on the user's model and rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from burnish.checks.copies import difference, plain_logprobs_of
from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, Verdict, judged, tolerance, type_name
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack, pack_singly
from burnish.step import Trainer
from burnish.types import Group, Microbatch, Score


def packed_equals_plain(subject: Subject) -> Verdict:
    """Log-probabilities of all trained tokens, packed into one row and one by one through transformers' own forward."""
    policy, groups = subject.trial(), subject.shared
    fault = _if_rows_saw_each_other(policy, groups, subject.opener.reader.max_positions)
    most = tolerance(policy.causal_lm.dtype, fault)
    found = difference(_packed_logprobs(policy, groups), plain_logprobs_of(policy, groups))
    measured = (
        f"{found:.1e} nats between packed and plain, at most {most:.2g} (rows that see each other: {fault:.2g}), "
        f"{_tried(policy, groups)}"
    )
    if found <= most and fault <= most:
        return Verdict(None, f"{measured}; this model looks at other rows too little to tell, try dtype=float32")
    return judged(
        found <= most,
        measured,
        "packed rows see each other or lose their place, so what is learned would be wrong; do not train: " + REPORT,
    )


def gradients_are_invariant(subject: Subject) -> Verdict:
    """The whole gradient of a step, the step's groups being cut into microbatches in every way that must not matter."""
    policy, groups = subject.trial(), subject.shared
    most = tolerance(policy.causal_lm.dtype)
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    ways = dict(_ways(policy, groups, subject.tokens_per_microbatch))
    _, alone = ways.popitem()
    expected = _gradient(trainer, alone, groups, subject.loss)
    size = _norm(expected)
    found = {
        name: _norm([a - b for a, b in zip(_gradient(trainer, way, groups, subject.loss), expected, strict=True)])
        / size
        for name, way in ways.items()
    }
    worst = max(found, key=lambda name: math.inf if math.isnan(found[name]) else found[name])
    dropout = ", dropout off" if subject.recipe.adapter.dropout else ""
    return judged(
        found[worst] <= most,
        f"{found[worst]:.1e} of the gradient's norm ({worst}, against one response at a time), at most {most:g}, "
        f"{_tried(policy, groups)}{dropout}",
        "how a step is cut into microbatches changes what is learned; a loss or denominator is not a sum over the "
        "step, or sequences see each other; do not train: " + REPORT,
    )


def _if_rows_saw_each_other(policy: Model, groups: Sequence[Group], max_positions: int) -> float:
    """Mean difference, nats, of the shortest response's log-probabilities if another row stood before its prompt.

    Infinite if the model has no positions for both.
    """
    group, before = min(groups, key=lambda each: each.num_tokens), groups[-1]
    room = max_positions - group.num_tokens
    if room <= 0:
        return math.inf
    others = torch.cat([before.prompt, before.responses[-1].tokens])[:room]
    joined = replace(group, prompt=torch.cat([others, group.prompt]))
    return difference(plain_logprobs_of(policy, [joined]), plain_logprobs_of(policy, [group]))


def _packed_logprobs(policy: Model, groups: Sequence[Group]) -> list[Tensor]:
    """Of every response, as the training computes them."""
    [microbatch] = policy.pack(groups, policy.num_tokens(groups))
    with torch.no_grad():
        logprob = policy.score(microbatch.to(policy.device), [Score.LOGPROB]).logprob
    assert logprob is not None, "the log-probability was asked for"
    sizes = [int(response.trainable.sum()) for group in groups for response in group.responses]
    return list(logprob.double().split(sizes))


def _ways(policy: Model, groups: Sequence[Group], budget: int) -> Mapping[str, list[Microbatch]]:
    """Name -> the groups as microbatches; the last computes every response with a prompt of its own, alone."""
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


def _gradient(trainer: Trainer, way: Sequence[Microbatch], groups: Sequence[Group], loss: Loss) -> list[Tensor]:
    """Of every trained parameter, over the whole step."""
    masters = trainer.optimizer.masters.masters
    for master in masters:
        master.grad = None
    denominators = count_denominators(groups)
    trainer.accumulate(way, loss, denominators)
    return [torch.zeros_like(master) if master.grad is None else master.grad for master in masters]


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _tried(policy: Model, groups: Sequence[Group]) -> str:
    responses = sum(len(group.responses) for group in groups)
    return f"{type_name(policy.causal_lm.dtype)}, {responses} responses, {policy.num_tokens(groups):,} tokens"
