"""Reward model training (Christiano et al. 2017, arXiv 1706.03741; Ouyang et al. 2022, arXiv 2203.02155).

Groups of several responses, best first, with a value target at the last token of each, or of each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.reward_model_eval import RewardModelEval
from burnish.evaluate.scores_and_steps import ScoresEval, StepsEval, right_above
from burnish.losses.base import Loss
from burnish.losses.reward.registry import REWARD_LOSSES
from burnish.model.policy import Model
from burnish.recipe.recipe import Recipe
from burnish.settings.loss_options import user_options
from burnish.sources.mapped_rows import MappedRows
from burnish.sources.value_targets import JudgedAt, value_target_at_end, value_targets_at_steps
from burnish.stages.assemble import StageParts, assemble, costliest_rows, row_source
from burnish.stages.context import StageContext
from burnish.stages.kind import TrainingKind
from burnish.stages.reward.settings import RewardModelSettings
from burnish.stages.role import POLICY, Role
from burnish.stages.supervised_data import SupervisedData
from burnish.stages.user_loss import reward_model_loss
from burnish.train.loop import Stage

_Data = SupervisedData[RewardModelSettings]


class RewardModel(TrainingKind[RewardModelSettings, _Data]):
    """Kind of the stage reward."""

    settings = RewardModelSettings
    no_model_checks = "its checks are those of language models, and this stage trains a reward model"

    def open(self, context: StageContext[RewardModelSettings]) -> _Data:
        return SupervisedData.of(context)

    def roles(self, recipe: Recipe, settings: RewardModelSettings) -> Sequence[Role]:
        return (Role(POLICY, value_head=settings.head_config(recipe.seed)),)

    def loss(self, settings: RewardModelSettings) -> Loss:
        if settings.is_own:
            return reward_model_loss(settings.loss, user_options(settings.loss_options))
        return REWARD_LOSSES[settings.loss](**settings.used_options)

    def build(self, data: _Data, models: Mapping[str, Model], name: str) -> Stage:
        settings, policy = data.context.settings, models[POLICY]
        loss, targets = self.loss(settings), _value_targets(settings)
        parts = StageParts(
            row_source(data, MappedRows(data.feed, lambda group: [targets(group)])),
            loss,
            _evaluators(data, policy, loss, targets),
            dry_run_groups=lambda: [targets(group) for group in costliest_rows(data)],
        )
        return assemble(data, policy, name, parts)


def _value_targets(settings: RewardModelSettings) -> JudgedAt:
    return value_targets_at_steps if settings.comparison == "steps" else value_target_at_end


def _evaluators(data: _Data, policy: Model, loss: Loss, targets: JudgedAt) -> Sequence[Evaluator]:
    """Evaluators of the held-out loss, and of the values against comparisons, scores or step labels."""
    settings, held_out, budget = data.context.settings, data.held_out, data.tokens_per_microbatch
    world = data.context.world
    if held_out is None:
        return ()
    rows = [targets(group) for group in held_out.groups]
    further: Evaluator = RewardModelEval(rows, budget, held_out.tags, world)
    if settings.scores is not None:
        further = ScoresEval(rows, settings.scores, budget, world)
    elif settings.comparison == "steps":
        further = StepsEval(rows, budget, right_above(settings.head_config(data.context.recipe.seed)), world)
    return [*held_out.evaluators(policy, loss, budget, rows), further]
