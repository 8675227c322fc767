"""Credit assignment by baseline and scale: every token gets the advantage of its response, and of its steps (`steps`).

Stands between rewards and packing. Ungraded responses are left out and counted, never given a reward of 0. Everything
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
from burnish.credit.steps import has_steps, step_advantages, without_steps
from burnish.rounding import alike
from burnish.types import Group, Response


@dataclass(frozen=True, slots=True)
class Credit(CreditSettings):
    """Credit rule of the policy gradient; its settings have the fields."""

    @classmethod
    def of(cls, settings: CreditSettings) -> Credit:
        """The rule with these settings."""
        return cls(**asdict(settings))

    def assign(self, groups: Sequence[Group], rewards: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """Each group's graded responses with advantages; see `credit`."""
        return [() if group is None else (group,) for group in credit(groups, self, rewards).by_prompt]


@dataclass(frozen=True, eq=False, slots=True)
class CreditedGroups:
    """Groups of a batch with advantages."""

    by_prompt: tuple[Group | None, ...]
    """Of each group its graded responses, with advantages; None: it has none."""
    ungraded: int
    """Number of responses left out."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that have graded responses."""
        return tuple(group for group in self.by_prompt if group is not None)


def credit(groups: Sequence[Group], rule: CreditSettings, rewards: Sequence[Tensor] | None = None) -> CreditedGroups:
    """Gives every response advantages, which are constants of the loss.

    Args:
        groups: responses with their `reward`, or None; with `sampler_logprobs` and `reference_logprobs` if the rule
            needs a reference.
        rule: the rule.
        rewards: [n] for each group, rewards before the KL penalty, if they are not the responses' `reward`; nan: not
            graded.

    Returns:
        The groups with `advantages` [R] in their responses: by GRPO's rule (arXiv 2402.03300, section 4.1) the reward
        less the group's mean, divided by its standard deviation; other rules replace the parts. Rewards of steps, which
        are parts of the reward, are credited to the tokens up to their ends: see `steps`.
    """
    given = [_rewards(group) for group in groups] if rewards is None else [values.double() for values in rewards]
    if rule.reward_kl_coef:
        given = [
            values - rule.reward_kl_coef * _divergences(group) for values, group in zip(given, groups, strict=True)
        ]
    rest = [without_steps(group, values) for group, values in zip(groups, given, strict=True)]
    compared = [BASELINES[rule.baseline](values) for values in rest]
    advantages = scaled(compared, rest, rule.advantage_scale)
    of_steps = step_advantages(groups, given, rule) if any(map(has_steps, groups)) else [None] * len(groups)
    credited = tuple(_group(*each, rule) for each in zip(groups, advantages, of_steps, strict=True))
    ungraded = sum(int(values.isnan().sum()) for values in given)
    return CreditedGroups(credited, ungraded)


def zero_variance(rewards: Sequence[float | None]) -> bool:
    """Whether the graded rewards of a group are all equal, so that comparing them gives no gradient. Rewards that
    differ by rounding alone are equal."""
    graded = [reward for reward in rewards if reward is not None]
    return len(graded) < 2 or alike(graded)


def kl_shaped(advantages: Tensor, logprobs: Tensor, reference_logprobs: Tensor, kl_coef: float) -> Tensor:
    """A_t − β (log π(y_t) − log π_ref(y_t)), as a detached reward of the token that it falls on (discount 0).

    Its expected policy gradient is that of −β Σ_t KL(π ‖ π_ref) where prefixes are held fixed: E[(log π − log π_ref)
    ∇ log π] is the gradient of the exact divergence of each next-token distribution. (Differentiating the estimator
    log π − log π_ref itself gives E[∇ log π] = 0.) For REINFORCE++ and RLOO, which sum over the sequence, subtract the
    sum from the reward instead: see `sequence_kl`.

    Args:
        advantages: [R].
        logprobs: [R] nats, of the policy that sampled the tokens; a constant.
        reference_logprobs: [R] nats.
        kl_coef: nats of reward per nat of divergence.
    """
    return advantages - kl_coef * (logprobs - reference_logprobs)


def sequence_kl(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Σ_t (log π − log π_ref), the k1 estimate of a response's divergence: a scalar, unbiased, of large variance."""
    return torch.sum(logprobs - reference_logprobs)


def _rewards(group: Group) -> Tensor:
    """[n] float64; nan: not graded."""
    rewards = [math.nan if response.reward is None else response.reward for response in group.responses]
    return torch.tensor(rewards, dtype=torch.float64)


def _divergences(group: Group) -> Tensor:
    """[n] float64, KL estimates of whole responses from the reference, nats."""
    divergences = [float(sequence_kl(*_two_logprobs(response))) for response in group.responses]
    return torch.tensor(divergences, dtype=torch.float64)


def _group(group: Group, advantages: Tensor, of_steps: Sequence[Tensor] | None, rule: CreditSettings) -> Group | None:
    steps: Sequence[Tensor | None] = [None] * len(group.responses) if of_steps is None else of_steps
    responses = [
        replace(response, advantages=_spread(response, float(advantage), sums, rule))
        for response, advantage, sums in zip(group.responses, advantages.tolist(), steps, strict=True)
        if not math.isnan(advantage)
    ]
    return replace(group, responses=tuple(responses)) if responses else None


def _spread(response: Response, advantage: float, of_steps: Tensor | None, rule: CreditSettings) -> Tensor:
    """[R] float32, the response's advantage for each of its tokens, and that of its steps."""
    same = torch.full((len(response.tokens),), advantage, dtype=torch.float64)
    if of_steps is not None:
        same += of_steps
    beta = rule.advantage_kl_coef
    return (kl_shaped(same, *_two_logprobs(response), beta) if beta else same).float()


def _two_logprobs(response: Response) -> tuple[Tensor, Tensor]:
    """[R] float64 each, of the policy that sampled the tokens and of the reference."""
    policy, reference = response.sampler_logprobs, response.reference_logprobs
    assert policy is not None and reference is not None, "a divergence needs both log-probabilities"
    return policy.double(), reference.double()
