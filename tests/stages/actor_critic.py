"""Toy stage with two learners: a policy, and a critic whose values are the baseline of its advantages.

The simplest actor-critic: reward only at the end and no discount, so the advantage of a token is the reward minus
V(s_t), and the critic's target is the reward. A recipe names it ``actor_critic.py:ActorCritic``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.credit.settings import Combination
from burnish.losses.base import LossDefaults
from burnish.losses.policy.gradient import PolicyGradient
from burnish.model.policy import Model
from burnish.recipe.recipe import Recipe
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer
from burnish.stages.assemble import learner_of
from burnish.stages.on_policy.build import PolicyExtras
from burnish.stages.on_policy.data import OnPolicyData
from burnish.stages.rl.build import Learning, Rl
from burnish.stages.rl.settings import RlSettings
from burnish.stages.role import CRITIC, Role
from burnish.train.learner import Learner
from burnish.types import Denominator, Group, LossOutput, LossTerm, Microbatch, Response, Scope, Score, TokenScores


class ActorCriticSettings(RlSettings):
    """Settings of the toy stage."""

    shares_base: bool = False
    """Whether the critic is an adapter on the policy's base."""


@dataclass(frozen=True, slots=True)
class ValueBaseline:
    """Credit rule: advantage = reward − V(s_t), and the critic's target is the reward."""

    needs_reference: bool = False
    group_relative: bool = False
    reward_combination: Combination = "sum"

    def assign(self, groups: Sequence[Group], rewards: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        items = []
        for group, given in zip(groups, rewards, strict=True):
            pairs = zip(group.responses, given.tolist(), strict=True)
            items.append((replace(group, responses=tuple(_credited(*pair) for pair in pairs)),))
        return items


def _credited(response: Response, reward: float) -> Response:
    values = torch.zeros(len(response.tokens)) if response.values is None else response.values
    return replace(response, advantages=reward - values, returns=torch.full_like(values, reward))


class ValueLoss(LossDefaults):
    """½ (V(s_t) − return)², mean over tokens."""

    needs = (Score.STATE_VALUE,)
    scope = Scope.SEQUENCE

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        error = scores.of(Score.STATE_VALUE) - microbatch.returns
        return LossOutput({"value": LossTerm(0.5 * error.square().sum(), Denominator.TOKENS)})


class ActorCritic(Rl):
    """Kind of the toy stage."""

    settings = ActorCriticSettings

    def roles(self, recipe: Recipe, settings: RlSettings) -> Sequence[Role]:
        shares = isinstance(settings, ActorCriticSettings) and settings.shares_base
        critic = Role(CRITIC, is_critic=True, shares_base=shares)
        return (*super().roles(recipe, settings), critic)

    def learning(self, settings: RlSettings) -> Learning:
        return Learning(ValueBaseline(), PolicyGradient.of(settings.chosen.loss))

    def extras(self, data: OnPolicyData, models: Mapping[str, Model]) -> PolicyExtras:
        values = StreamFiller(LiveScorer(models[CRITIC]), "values", data.tokens_per_microbatch, Score.STATE_VALUE)
        own = super().extras(data, models)
        return replace(own, fillers=(*own.fillers, values))

    def further_learners(self, data: OnPolicyData, models: Mapping[str, Model], steps: int) -> Sequence[Learner]:
        return (learner_of(data, CRITIC, models[CRITIC], ValueLoss(), steps),)
