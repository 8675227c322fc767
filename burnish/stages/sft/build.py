"""Supervised fine-tuning: the likelihood of given responses (Wei et al. 2021, arXiv 2109.01652).

Groups of one response from rows, or of the turns of a conversation whose earlier ones the template rewrites; no credit
rule; cross-entropy over the trained tokens of the whole step.
"""

from __future__ import annotations

from collections.abc import Mapping

from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.noise import Neftune
from burnish.model.policy import Model
from burnish.settings.loss_options import user_options
from burnish.sources.mapped_rows import MappedRows
from burnish.stages.assemble import StageParts, assemble, costliest_rows, row_source
from burnish.stages.context import StageContext
from burnish.stages.kind import TrainingKind
from burnish.stages.role import POLICY
from burnish.stages.sft.settings import SftSettings
from burnish.stages.supervised_data import SupervisedData
from burnish.stages.user_loss import language_model_loss
from burnish.train.loop import Stage
from burnish.types import Group, Scope


class Sft(TrainingKind[SftSettings, SupervisedData[SftSettings]]):
    """Kind of the stage sft."""

    settings = SftSettings

    def open(self, context: StageContext[SftSettings]) -> SupervisedData[SftSettings]:
        return SupervisedData.of(context)

    def loss(self, settings: SftSettings) -> Loss:
        if settings.loss != "cross_entropy":
            return language_model_loss(settings.loss, user_options(settings.loss_options))
        return CrossEntropy(**dict(settings.loss_options))

    def build(self, data: SupervisedData[SftSettings], models: Mapping[str, Model], name: str) -> Stage:
        settings, policy = data.context.settings, models[POLICY]
        loss, alpha = self.loss(settings), settings.neftune_alpha
        budget, held_out = data.tokens_per_microbatch, data.held_out
        # Noise depends on the length of a sequence, and a loss of the user's may look at groups: sequences stay apart.
        alone = alpha is not None or loss.scope is not Scope.SEQUENCE
        parts = StageParts(
            row_source(data, MappedRows(data.feed, Group.expanded) if alone else data.feed),
            loss,
            held_out.evaluators(policy, loss, budget) if held_out else (),
            dry_run_groups=lambda: [own for g in costliest_rows(data) for own in (g.expanded() if alone else (g,))],
            neftune=None if alpha is None else Neftune(alpha, data.context.recipe.seed),
        )
        return assemble(data, policy, name, parts)
