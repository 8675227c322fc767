"""Batcher: graded groups → training items, dealt to the optimizer steps of a batch.

Groups whose rewards are all equal have no gradient and are left out (dynamic sampling, Yu et al. 2025, DAPO,
arXiv 2503.14476). The rest is credited by the rule, joined with replayed items, and dealt in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.credit.combine import combined
from burnish.credit.credit import zero_variance
from burnish.credit.rule import AdaptiveRule, CreditRule
from burnish.credit.steps import is_compared_equal
from burnish.roles.filler import Filler, with_task, without_task
from burnish.rollouts.failures import nothing_graded
from burnish.rollouts.metrics import mean
from burnish.rollouts.replay_buffer import ReplayBuffer, Replayed
from burnish.rollouts.serialization import TrainingItem
from burnish.rollouts.settings import RolloutSettings
from burnish.rollouts.shaping import RewardShaper
from burnish.rollouts.worker import GradedGroup
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class CreditedBatch:
    """Training items of the new groups of a batch."""

    items: list[TrainingItem]
    """One for each prompt that has any."""
    advantages: Mapping[tuple[int, int], float]
    """(index of the group among all graded ones, index of the response) → mean advantage of its tokens; without
    responses that are not trained, and empty where the rule gives no advantages."""

    @property
    def groups(self) -> list[Group]:
        """All groups of the items."""
        return [group for item in self.items for group in item]


@dataclass(eq=False)
class Batcher:
    """Filters, credits and deals graded groups."""

    rule: CreditRule
    settings: RolloutSettings
    fillers: Sequence[Filler] = ()
    """Fill streams before credit; empty: credit and loss need only what the sampler reported."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of rewards by name, without those of weight 0; used where the rule normalizes each reward first."""
    buffer: ReplayBuffer | None = None
    """Replay buffer; None: no replay."""
    seed: int = 0
    """Seed of the order of groups in each epoch over a batch."""

    def __post_init__(self) -> None:
        rule = self.settings.shaping
        self._shaper = None if rule is None else RewardShaper(rule)

    def observe(self, graded: Sequence[GradedGroup]) -> None:
        """Takes new rewards into the running statistics of reward shaping."""
        if self._shaper is not None:
            for group in graded:
                self._shaper.observe(self._combined(group))

    def has_signal(self, graded: GradedGroup) -> bool:
        """Whether the group has a gradient: some rewards differ, and some response is trained."""
        if self.settings.mask_truncated and all(response.finish == "length" for response in graded.group.responses):
            return False
        if not self.settings.drops:
            return self.settings.learns_ungraded or bool(graded.rewards)
        return not is_compared_equal(graded.group, self._rewards(graded))

    def equal_rewards(self, graded: Sequence[GradedGroup]) -> float | None:
        """Share of the graded groups whose rewards are all equal. Where the rule does not compare the responses to a
        prompt: 1 if all rewards are equal, otherwise 0. None: nothing is learned from rewards alone."""
        if self.settings.learns_ungraded:
            return None
        rewards = [values[~values.isnan()].tolist() for values in map(self._rewards, graded)]
        if not self.rule.group_relative:
            rewards = [[reward for values in rewards for reward in values]]
        return mean([float(zero_variance(values)) for values in rewards if values])

    def replayed(self, updates: int, step: int) -> list[Replayed]:
        """Items of earlier batches for a batch of `updates` steps that begins after this step."""
        return [] if self.buffer is None else self.buffer.draw(self.settings.groups_per_step * updates, step)

    def credit(self, graded: Sequence[GradedGroup], chosen: Sequence[int]) -> CreditedBatch:
        """Training items of chosen groups, by the credit rule.

        Args:
            graded: all graded groups of a batch.
            chosen: indices of those that are trained on, at least one.

        Raises:
            RunError: none of their responses could be graded.
        """
        groups = [with_task(graded[index].group.with_tree(), graded[index].prompt.task) for index in chosen]
        for fill in self.fillers:
            groups = fill(groups)
        groups = [replace(without_task(group), tree=None) for group in groups]  # a rule may leave out responses
        rewards = [self._rewards(graded[index]) for index in chosen]
        if self.settings.mask_truncated and not self.rule.group_relative:  # no baseline in which they would count
            groups = [_without_truncated(group) for group in groups]
        items = self.rule.assign(groups, rewards)
        if not any(items):
            raise nothing_graded(graded)
        if self.settings.mask_truncated:
            items = [tuple(_without_truncated(group) for group in item) for item in items]
        if self.settings.success_weights:
            items = [tuple(_with_success_weights(group, self.settings) for group in item) for item in items]
        items = [tuple(group.with_tree() for group in item) for item in items]
        advantages = {
            (number, index): value
            for number, item, values in zip(chosen, items, rewards, strict=True)
            for index, value in _advantages(item, values)
        }
        return CreditedBatch([item for item in items if item], advantages)

    def deal(
        self, items: Sequence[TrainingItem], replayed: Sequence[Replayed], updates: int, step: int = 0
    ) -> Iterator[tuple[Group, ...]]:
        """The groups of each of at most `updates` steps in every epoch over the batch: new items in their order, or
        reshuffled for each of several epochs; replayed ones in turn.

        Args:
            items: new items, at least one.
            replayed: items of the replay buffer.
            updates: number of steps of an epoch.
            step: step after which the batch begins; enters the order of the items.
        """
        for epoch in range(self.settings.epochs_per_batch):
            yield from self._dealt(self._order(items, step, epoch), replayed, updates)

    def _dealt(
        self, items: Sequence[TrainingItem], replayed: Sequence[Replayed], updates: int
    ) -> Iterator[tuple[Group, ...]]:
        steps = min(updates, len(items))
        for number, indices in enumerate(np.array_split(np.arange(len(items)), steps)):
            older = [item for _, item in replayed[number::steps]]
            yield tuple(group for item in [*(items[index] for index in indices.tolist()), *older] for group in item)

    def _order(self, items: Sequence[TrainingItem], step: int, epoch: int) -> Sequence[TrainingItem]:
        if self.settings.epochs_per_batch == 1:
            return items
        order = np.random.default_rng([self.seed, 0xE90C, step, epoch]).permutation(len(items))
        return [items[index] for index in order.tolist()]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the credit rule for the newest batch."""
        return self.rule.metrics if isinstance(self.rule, AdaptiveRule) else {}

    def state_dict(self) -> dict[str, Any]:
        """State of credit rule and reward shaping, which JSON can hold; {}: they have none."""
        rule = {"rule": self.rule.state_dict()} if isinstance(self.rule, AdaptiveRule) else {}
        return rule | ({} if self._shaper is None else {"shaping": self._shaper.state_dict()})

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        if isinstance(self.rule, AdaptiveRule):
            self.rule.load_state_dict(values["rule"])
        if self._shaper is not None:
            self._shaper.load_state_dict(values["shaping"])

    def _rewards(self, graded: GradedGroup) -> Tensor:
        """[n] float64, combined and shaped rewards; nan: not graded."""
        rewards = self._combined(graded)
        return rewards if self._shaper is None else self._shaper(graded.group.responses, rewards)

    def _combined(self, graded: GradedGroup) -> Tensor:
        """[n] float64, combined rewards; nan: not graded."""
        if self.rule.reward_combination == "sum":
            return graded.reward_tensor
        weights = torch.tensor(list(self.weights.values()), dtype=torch.float64)
        return combined([graded.outcomes(list(self.weights))], weights, self.rule.reward_combination)[0]


def _advantages(item: TrainingItem, rewards: Tensor) -> Iterator[tuple[int, float]]:
    """Index of each response with an advantage, and its mean; an item with advantages is one group of the graded
    responses, or of all."""
    graded = (~rewards.isnan()).nonzero()[:, 0].tolist()
    for group in item:
        if all(response.advantages is not None for response in group.responses):
            credited = range(len(rewards)) if len(group.responses) == len(rewards) else graded
            for index, response in zip(credited, group.responses, strict=True):
                assert response.advantages is not None
                yield index, float(response.advantages.mean())


def _without_truncated(group: Group) -> Group:
    """The group with no trained tokens in truncated responses."""
    responses = [
        replace(response, trainable=torch.zeros_like(response.trainable)) if response.finish == "length" else response
        for response in group.responses
    ]
    return replace(group, responses=tuple(responses))


def _with_success_weights(group: Group, settings: RolloutSettings) -> Group:
    """The group with the weight 1 for tokens of right responses, and 0 for all others."""
    weights = [
        float(response.reward is not None and response.reward >= settings.success_threshold)
        for response in group.responses
    ]
    responses = [
        replace(response, weights=torch.full((len(response.tokens),), weight))
        for response, weight in zip(group.responses, weights, strict=True)
    ]
    return replace(group, responses=tuple(responses))
