"""From judged groups to credited ones: every token gets the advantage of its response.

Between the rewards and packing. What nobody could judge is left out and counted, never given a reward of 0. Everything
is float64 until the advantages of tokens, which are rounded to float32 once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from burnish.credit.baseline import BASELINES
from burnish.credit.scale import scaled
from burnish.credit.settings import CreditSettings
from burnish.credit.shaping import kl_shaped, sequence_kl
from burnish.rounding import alike
from burnish.types import Group, Response


@dataclass(frozen=True, slots=True)
class Credit(CreditSettings):
    """A rule of credit; its settings have the fields."""

    @classmethod
    def of(cls, settings: CreditSettings) -> Credit:
        """The rule with these settings."""
        return cls(**asdict(settings))

    def assign(self, groups: Sequence[Group], worth: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """The groups with advantages, one for each prompt of which anything is judged; see `credit`."""
        return [(group,) for group in credit(groups, self, worth).groups]


@dataclass(frozen=True, eq=False, slots=True)
class CreditedGroups:
    """What learning sees of a batch."""

    groups: tuple[Group, ...]
    """Responses with advantages; unjudged ones are not among them, nor groups in which nothing is judged."""
    unjudged: int
    """Responses left out."""


def credit(groups: Sequence[Group], rule: CreditSettings, worth: Sequence[Tensor] | None = None) -> CreditedGroups:
    """Gives every response advantages, constants of the loss.

    Args:
        groups: every response with its `reward`, or None; with `sampler_logprobs` and `reference_logprobs` if the rule
            needs a reference.
        rule: the rule.
        worth: [n] for each group, what its responses are worth before any divergence, where that is not their `reward`;
            nan: not judged.
    """
    rewards = [_rewards(group) for group in groups] if worth is None else [each.double() for each in worth]
    if rule.reward_kl_coef:
        rewards = [
            each - rule.reward_kl_coef * _divergences(group) for each, group in zip(rewards, groups, strict=True)
        ]
    compared = [BASELINES[rule.baseline](each) for each in rewards]
    advantages = scaled(compared, rewards, rule.advantage_scale)
    credited = [_group(group, each, rule) for group, each in zip(groups, advantages, strict=True)]
    unjudged = sum(int(each.isnan().sum()) for each in rewards)
    return CreditedGroups(tuple(group for group in credited if group is not None), unjudged)


def zero_variance(rewards: Sequence[float | None]) -> bool:
    """Whether no response of a group is better than another, so that nothing can be learned from comparing them.
    Rewards that differ by rounding alone are equal."""
    judged = [reward for reward in rewards if reward is not None]
    return len(judged) < 2 or alike(judged)


def _rewards(group: Group) -> Tensor:
    """[n] float64; nan: not judged."""
    rewards = [math.nan if response.reward is None else response.reward for response in group.responses]
    return torch.tensor(rewards, dtype=torch.float64)


def _divergences(group: Group) -> Tensor:
    """[n] float64, of whole responses from the reference."""
    divergences = [float(sequence_kl(*_two_logprobs(response))) for response in group.responses]
    return torch.tensor(divergences, dtype=torch.float64)


def _group(group: Group, advantages: Tensor, rule: CreditSettings) -> Group | None:
    kept = [
        replace(response, advantages=_spread(response, float(advantage), rule))
        for response, advantage in zip(group.responses, advantages.tolist(), strict=True)
        if not math.isnan(advantage)
    ]
    return replace(group, responses=tuple(kept)) if kept else None


def _spread(response: Response, advantage: float, rule: CreditSettings) -> Tensor:
    """[R] float32, the response's advantage for each of its tokens."""
    same = torch.full((len(response.tokens),), advantage, dtype=torch.float64)
    beta = rule.advantage_kl_coef
    return (kl_shaped(same, *_two_logprobs(response), beta) if beta else same).float()


def _two_logprobs(response: Response) -> tuple[Tensor, Tensor]:
    """[R] float64 each, of the policy that wrote the tokens and of the reference."""
    mine, reference = response.sampler_logprobs, response.reference_logprobs
    assert mine is not None and reference is not None, "a divergence needs both log-probabilities"
    return mine.double(), reference.double()
