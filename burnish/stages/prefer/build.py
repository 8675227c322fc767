"""Preference learning from comparisons or verdicts; the loss determines the method (see `losses.preference`).

Groups of several responses, best first, from rows. Reference log-probabilities are precomputed, or filled in each step.
With KTO, each step also scores prompts joined to other prompts' responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.preference_eval import PreferenceEval
from burnish.losses.base import Loss
from burnish.losses.preference.build import built
from burnish.losses.preference.implicit import ImplicitReward, LogProb, LogRatio
from burnish.losses.preference.listwise import Listwise
from burnish.losses.preference.pairs import Pairs
from burnish.losses.weighted_sum import WeightedSum
from burnish.model.policy import Model
from burnish.recipe.recipe import Recipe
from burnish.roles.filler import StreamFiller
from burnish.roles.scorer import LiveScorer
from burnish.settings.loss_options import user_options
from burnish.sources.base import Source
from burnish.sources.filled import FilledSource
from burnish.sources.mismatched_source import MismatchedSource
from burnish.stages.assemble import StageParts, assemble, costliest_rows, follow_optimizer, row_source
from burnish.stages.context import StageContext
from burnish.stages.kind import TrainingKind
from burnish.stages.prefer.reference import ReferencedData, with_reference
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.role import POLICY, REFERENCE, Role
from burnish.stages.supervised_data import SupervisedData
from burnish.stages.user_loss import language_model_loss
from burnish.train.loop import Stage
from burnish.types import Group

_Data = SupervisedData[PreferSettings]


class Prefer(TrainingKind[PreferSettings, _Data]):
    """Kind of the stage prefer."""

    settings = PreferSettings

    def open(self, context: StageContext[PreferSettings]) -> _Data:
        return SupervisedData.of(context)

    def roles(self, recipe: Recipe, settings: PreferSettings) -> Sequence[Role]:
        if settings.reference_model is not None:
            return Role(POLICY), Role(REFERENCE, trained=False, model=settings.reference_model)
        is_held = settings.reference_rule == "online" or settings.measures_mismatches
        return (Role(POLICY), Role(REFERENCE, trained=False, is_copy=True)) if is_held else (Role(POLICY),)

    def loss(self, settings: PreferSettings) -> Loss:
        if settings.is_own:
            return language_model_loss(str(settings.loss), user_options(settings.loss_options))
        return built(settings.preference)

    def annotate(
        self, groups: Sequence[Group], policy: Model, settings: PreferSettings, budget: int
    ) -> Sequence[Group]:
        if not settings.has_reference:
            return groups
        return StreamFiller(LiveScorer(policy), "reference_logprobs", budget)(groups)

    def build(self, data: _Data, models: Mapping[str, Model], name: str) -> Stage:
        settings, policy = data.context.settings, models[POLICY]
        referenced = with_reference(data, policy, models.get(REFERENCE, policy))
        loss = self.loss(settings)
        parts = StageParts(
            _source(data, referenced),
            loss,
            _evaluators(data, policy, loss, referenced),
            {"the reference": referenced.fingerprint},
            referenced.notes,
            dry_run_groups=lambda: list(map(_with_reference_stream, costliest_rows(data))),
            snapshots={} if referenced.sync is None else {REFERENCE: referenced.sync.snapshot},
        )
        stage = assemble(data, policy, name, parts)
        follow_optimizer(stage, referenced.sync)
        return stage


def _source(data: _Data, referenced: ReferencedData) -> Source:
    source: Source = row_source(data, referenced.rows)
    if data.context.settings.measures_mismatches:
        max_length = data.context.reader.max_length
        source = MismatchedSource(source, seed=data.context.recipe.seed, max_length=max_length)
    return source if referenced.filler is None else FilledSource(source, [referenced.filler], referenced.sync)


def _evaluators(data: _Data, policy: Model, loss: Loss, referenced: ReferencedData) -> Sequence[Evaluator]:
    """Evaluators of the held-out loss, of generation, and of the implicit reward."""
    held_out, budget = data.held_out, data.tokens_per_microbatch
    if held_out is None:
        return ()
    tags = held_out.tags
    # Mismatched pairs, which are scored in addition to the rows, have no tags.
    tags += [[] for _ in range(len(referenced.held_out) - len(tags))] if tags else []
    reward = implicit_reward(data.context.settings, loss)
    further = PreferenceEval(referenced.held_out, reward, budget, tags, data.context.world)
    return [*held_out.evaluators(policy, loss, budget, referenced.held_out), further]


def implicit_reward(settings: PreferSettings, loss: Loss) -> ImplicitReward:
    """Implicit reward of a response: that of the loss; if the loss has none, the log-ratio to the reference, or without
    a reference the mean log-probability per token."""
    if isinstance(loss, WeightedSum):
        loss = next((part.loss for part in loss.parts if isinstance(part.loss, Pairs | Listwise)), loss)
    if isinstance(loss, Pairs | Listwise):
        return loss.reward
    return LogRatio() if settings.has_reference else LogProb(1.0, per_token=True)


def _with_reference_stream(group: Group) -> Group:
    """The group with zeros as log-probabilities of the reference."""
    responses = [
        replace(response, reference_logprobs=torch.zeros(len(response.tokens))) for response in group.responses
    ]
    return replace(group, responses=tuple(responses))
