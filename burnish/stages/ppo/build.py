"""PPO with a critic (Schulman et al. 2017, arXiv 1707.06347; Ziegler et al. 2019, arXiv 1909.08593).

Two learners, policy and critic, learn from the same groups; two fillers compute the reference's log-probabilities and
the critic's values before credit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from burnish.credit.gae import Gae
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.success_nll import WithSuccessNll
from burnish.losses.scaled import Scaled
from burnish.losses.value import ValueLoss
from burnish.model.policy import Model
from burnish.model.settings import stage_named
from burnish.recipe.recipe import Recipe
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer
from burnish.settings.resolved import Resolved
from burnish.stages.assemble import learner_of
from burnish.stages.context import StageContext
from burnish.stages.on_policy.build import Learning, OnPolicy, PolicyExtras
from burnish.stages.ppo.data import PTX, PpoData, ptx_rows
from burnish.stages.ppo.groups import POLICY_MODEL
from burnish.stages.ppo.settings import PpoSettings
from burnish.stages.role import CRITIC, Role
from burnish.stages.updating import learning_rate
from burnish.train.auxiliary import Auxiliary
from burnish.train.learner import Learner
from burnish.train.pause import Pause
from burnish.types import Score


class Ppo(OnPolicy[PpoSettings, PpoData]):
    """Kind of the stage ppo."""

    settings = PpoSettings

    def open(self, context: StageContext[PpoSettings]) -> PpoData:
        return PpoData.of(context)

    def fingerprints(self, context: StageContext[PpoSettings]) -> Mapping[str, str]:
        rows = ptx_rows(context)
        own = super().fingerprints(context)
        return own if rows is None else {**own, PTX: rows.preparation.identity}

    def derived(self, context: StageContext[PpoSettings]) -> Mapping[str, Resolved]:
        rate = learning_rate(context.recipe, context.settings.critic)
        return {**super().derived(context), "critic.learning_rate": Resolved(rate, "default of the critic")}

    def roles(self, recipe: Recipe, settings: PpoSettings) -> Sequence[Role]:
        return (*super().roles(recipe, settings), critic_role(recipe, settings))

    def learning(self, settings: PpoSettings) -> Learning:
        loss, coef = PolicyGradient.of(settings.gradient), settings.policy_gradient.success_nll_coef
        credit = Gae(settings.credit)
        if settings.entropy_control is not None:
            return Learning(credit, EntropyControl(loss, *settings.entropy_control))
        return Learning(credit, WithSuccessNll(loss, coef) if coef else loss)

    def further_learners(self, data: PpoData, models: Mapping[str, Model], steps: int) -> Sequence[Learner]:
        critic = data.settings.critic
        loss = ValueLoss(critic.value_clip)
        return (learner_of(data, CRITIC, models[CRITIC], loss, steps, optimization=critic),)

    def extras(self, data: PpoData, models: Mapping[str, Model]) -> PolicyExtras:
        settings, own = data.settings, super().extras(data, models)
        critic = LiveScorer(models[CRITIC])
        values = StreamFiller(critic, "values", data.tokens_per_microbatch, Score.STATE_VALUE)
        pause = Pause(settings.critic.value_warmup_steps, settings.kl_limit)
        own = replace(own, fillers=(*own.fillers, values), pause=pause)
        if data.ptx is None or settings.ptx is None:
            return own
        loss, rows = Scaled(CrossEntropy(), settings.ptx.coef), settings.ptx.sequences_per_step
        return replace(own, auxiliary=[Auxiliary("ptx", data.ptx.draws, loss, rows, data.context.recipe.seed)])


def critic_role(recipe: Recipe, settings: PpoSettings) -> Role:
    """The critic: a model of its own, or with an adapter, if it begins as the policy or as the reward model of an
    earlier stage, a further adapter on the policy's base."""
    name, adapted = settings.critic.model, recipe.adapter.kind != "full"
    if name == POLICY_MODEL:
        return Role(CRITIC, is_critic=True, shares_base=adapted)
    is_reward_adapter = adapted and _is_reward_stage(recipe, name)
    return Role(CRITIC, model=name, is_critic=True, shares_base=is_reward_adapter)


def _is_reward_stage(recipe: Recipe, name: str) -> bool:
    """Whether the name is that of a reward model of an earlier stage."""
    stage = stage_named(name)
    return stage is not None and recipe.named_stages[stage].model_kind == "reward_model"
