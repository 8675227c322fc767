"""Credit of steps: the rewards of steps → advantages of tokens, beside the advantage of the rest of the reward.

Process supervision of GRPO (Shao et al. 2024, DeepSeekMath, arXiv 2402.03300, section 4.1.3). With r_ij the reward of
step j of response i, which ends at token e_ij, and R all rewards of steps of the group:

    r̃_ij = (r_ij − mean(R)) / std(R)          Â_it = Σ_{j: e_ij ≥ t} r̃_ij

Every step counts once in mean and deviation, so a response of many steps counts more. The rule's own baseline and scale
take the place of mean and deviation: the steps of the other responses (`leave_one_out`) or none, all steps of the batch
or none. Departing from the paper, which has process rewards alone, a reward also has parts that belong to no step: the
advantage of what is left of it, by the same rule, is added to every token.

Limits: with one step in each response, at its last token, and nothing else in the reward, the advantages are those of
whole responses (`leave_one_out` too). Steps that do not differ give exactly 0, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from burnish.credit.baseline import compared
from burnish.credit.scale import scaled
from burnish.credit.settings import Baseline, CreditSettings
from burnish.rounding import ROUNDING, alike, summed
from burnish.types import Group, Response


def has_steps(group: Group) -> bool:
    """Whether a response of the group has rewards of steps."""
    return any(response.step_rewards is not None for response in group.responses)


def without_steps(group: Group, rewards: Tensor) -> Tensor:
    """[n] float64, the rewards of a group without those of their steps; exactly 0 where rounding error alone is left.

    Args:
        group: the responses.
        rewards: [n]; nan: not graded, and stays nan.
    """
    if not has_steps(group):
        return rewards
    given = zip(rewards.tolist(), group.responses, strict=True)
    rest = [reward if math.isnan(reward) else summed([reward, *(-s for s in _values(r))]) for reward, r in given]
    return torch.tensor(rest, dtype=torch.float64)


def is_compared_equal(group: Group, rewards: Tensor) -> bool:
    """Whether comparing the graded responses of a group gives no advantage: their rewards without those of steps are
    equal, and the rewards of all their steps are.

    Args:
        group: the responses.
        rewards: [n]; nan: not graded.
    """
    rest = [reward for reward in without_steps(group, rewards).tolist() if not math.isnan(reward)]
    return alike(rest) and alike(_graded_steps(group, rewards).values.tolist())


def step_advantages(groups: Sequence[Group], rewards: Sequence[Tensor], rule: CreditSettings) -> list[list[Tensor]]:
    """[R] float64 for each response of each group: Σ of the normalized rewards of the steps that end at or after a
    token; 0 for a response that is not graded.

    Args:
        groups: responses, some with `step_rewards`.
        rewards: [n] for each group; nan: not graded.
        rule: its baseline and scale are applied to steps.
    """
    steps = [_graded_steps(group, values) for group, values in zip(groups, rewards, strict=True)]
    differences = [_from_baseline(each, rule.baseline) for each in steps]
    normalized = scaled(differences, [each.values for each in steps], rule.advantage_scale)
    return [
        [_sums(response, values[each.owners == index]) for index, response in enumerate(group.responses)]
        for group, each, values in zip(groups, steps, normalized, strict=True)
    ]


@dataclass(frozen=True, eq=False, slots=True)
class _Steps:
    """All K steps of the graded responses of a group."""

    values: Tensor
    """[K] float64 rewards, in the order of responses and tokens."""
    owners: Tensor
    """[K] int64, index of the response of each."""


def _graded_steps(group: Group, rewards: Tensor) -> _Steps:
    given = enumerate(zip(group.responses, rewards.tolist(), strict=True))
    steps = [(value, index) for index, (r, reward) in given if not math.isnan(reward) for value in _values(r)]
    values = torch.tensor([value for value, _ in steps], dtype=torch.float64)
    return _Steps(values, torch.tensor([index for _, index in steps], dtype=torch.int64))


def _values(response: Response) -> list[float]:
    """Rewards of its steps, in the order of tokens."""
    if response.step_rewards is None:
        return []
    values: list[float] = response.step_rewards[response.step_rewards != 0].tolist()
    return values


def _from_baseline(steps: _Steps, baseline: Baseline) -> Tensor:
    """[K] float64, rewards of steps minus their baseline."""
    if baseline == "leave_one_out":
        return _from_others(steps)
    return compared(steps.values) if baseline == "group" else steps.values


def _from_others(steps: _Steps) -> Tensor:
    """[K] float64, each reward minus the mean of the steps of the other responses, computed exactly and rounded once; 0
    for the steps of the only response that has any. Later steps of the same response depend on the token that is
    credited, so a baseline with them in it would be biased."""
    exact, owners = [Fraction(value) for value in steps.values.tolist()], steps.owners.tolist()
    threshold = ROUNDING * max(map(abs, steps.values.tolist()), default=0.0)
    means: dict[int, Fraction | None] = {}
    for owner in set(owners):
        others = [value for value, other in zip(exact, owners, strict=True) if other != owner]
        means[owner] = sum(others, Fraction()) / len(others) if others else None
    differences = []
    for value, owner in zip(exact, owners, strict=True):
        mean = means[owner]
        difference = 0.0 if mean is None else float(value - mean)
        differences.append(0.0 if abs(difference) <= threshold else difference)
    return torch.tensor(differences, dtype=torch.float64)


def _sums(response: Response, normalized: Tensor) -> Tensor:
    """[R] float64, at each token the sum of the normalized rewards [K] of the steps that end at or after it."""
    sums = torch.zeros(len(response.tokens), dtype=torch.float64)
    if len(normalized):
        assert response.step_rewards is not None, "normalized rewards are those of steps"
        values, start = normalized.tolist(), 0
        for number, end in enumerate(response.step_rewards.nonzero()[:, 0].tolist()):
            sums[start : end + 1] = summed(values[number:])
            start = end + 1
    return sums
