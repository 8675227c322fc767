"""Distillation: on the student's own responses (on-policy), on the teacher's, or on those of rows.

On-policy distillation (Agarwal et al. 2023, GKD, arXiv 2306.13649; Gu et al. 2023, arXiv 2306.08543) is a stage whose
responses the policy generates, with a teacher in place of graders: a filler computes the teacher's streams of a batch,
and the loss compares. Off-policy, the source is of rows, and the teacher's streams are in a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from burnish.credit.teacher import TeacherCredit
from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.distillation.divergence import TeacherDivergence
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.scaled import Scaled
from burnish.losses.weighted_sum import Weighted, WeightedSum
from burnish.model.policy import Model
from burnish.recipe.recipe import Recipe
from burnish.roles.filler import Filler, dealt_filler
from burnish.sources.base import Source
from burnish.sources.filled import FilledSource
from burnish.sources.rows import RowSource
from burnish.stages.assemble import StageParts, assemble
from burnish.stages.context import StageContext
from burnish.stages.distill.data import GIVEN, DistillData, given_rows
from burnish.stages.distill.evaluation import teacher_evaluators
from burnish.stages.distill.off_policy import off_policy_rows, require_own_prompts
from burnish.stages.distill.settings import DistillSettings
from burnish.stages.distill.sources import teacher_role
from burnish.stages.distill.teachers import (
    Teachers,
    dry_streams,
    teachers_of,
    training_signal,
    with_mask,
)
from burnish.stages.on_policy.build import Learning, OnPolicy, PolicyExtras, policy_evaluators
from burnish.stages.role import POLICY, Role
from burnish.train.auxiliary import Auxiliary
from burnish.train.loop import Stage


class Distill(OnPolicy[DistillSettings, DistillData]):
    """Kind of the stage distill."""

    settings = DistillSettings

    def open(self, context: StageContext[DistillSettings]) -> DistillData:
        return DistillData.of(context)

    def fingerprints(self, context: StageContext[DistillSettings]) -> Mapping[str, str]:
        rows = given_rows(context)
        own = super().fingerprints(context)
        return own if rows is None else {**own, GIVEN: rows.preparation.identity}

    def roles(self, recipe: Recipe, settings: DistillSettings) -> Sequence[Role]:
        teachers = [
            teacher_role(number, teacher)
            for number, teacher in enumerate(settings.teachers)
            if teacher.kind == "model" and teacher.placement == "resident"
        ]
        divided = settings.sampling.temperature if settings.compared is None else settings.resolved_temperature
        return (Role(POLICY, temperature=divided if settings.loss != "cross_entropy" else 1.0), *teachers)

    def learning(self, settings: DistillSettings) -> Learning:
        is_sampled = settings.loss == "policy_gradient"
        credit = TeacherCredit(settings.teacher_coef if is_sampled else 0.0, settings.reward_coef)
        return Learning(credit, loss_of(settings))

    def extras(self, data: DistillData, models: Mapping[str, Model]) -> PolicyExtras:
        return self._extras(data, models, teachers_of(data, models))

    def _extras(self, data: DistillData, models: Mapping[str, Model], teachers: Teachers) -> PolicyExtras:
        own, policy = super().extras(data, models), models[POLICY]
        fill = with_mask(data, teachers.fill)
        width = max((source.head().weight.shape[1] for source in teachers.sources), default=1)
        return replace(
            own,
            fillers=(fill, *own.fillers),
            comparison=teachers.comparison,
            auxiliary=_given_text(data, teachers, fill),
            evaluators=teacher_evaluators(data, self.rolling(data, policy), teachers),
            sync=teachers.sync,
            snapshots=teachers.snapshots,
            fingerprints=teachers.fingerprints,
            notes=teachers.notes,
            dry_streams=partial(dry_streams, training_signal(data, policy), width),
        )

    def build(self, data: DistillData, models: Mapping[str, Model], name: str) -> Stage:
        if data.settings.response_source == "student":
            return super().build(data, models, name)
        return self._off_policy(data, models, name)

    def _off_policy(self, data: DistillData, models: Mapping[str, Model], name: str) -> Stage:
        """A stage that learns from given responses."""
        settings, teachers = data.settings, teachers_of(data, models)
        given, extras = off_policy_rows(data, models, teachers), self._extras(data, models, teachers)
        policy = replace(models[POLICY], comparison=extras.comparison)
        size = min(settings.groups_per_step, len(given.rows))
        source: Source = RowSource(
            given.rows,
            sequences_per_step=size,
            seed=data.context.recipe.seed,
            epochs=settings.epochs or 1.0,
            max_steps=settings.max_steps,
        )
        parts = StageParts(
            source if given.filler is None else FilledSource(source, [dealt_filler(given.filler, data.context.world)]),
            self.learning(settings).loss,
            [*policy_evaluators(self.rolling(data, policy)), *extras.evaluators],
            {**extras.fingerprints, **given.fingerprints, "the rewards": data.rewards_identity},
            notes=(*extras.notes, *given.notes),
            snapshots=extras.snapshots,
            dry_run_groups=lambda: given.costliest(data.tokens_per_microbatch, size),
        )
        return assemble(data, policy, name, parts)


def loss_of(settings: DistillSettings) -> Loss:
    """The loss of a stage: the teacher's part, and the policy gradient where there is one."""
    if settings.loss == "cross_entropy":
        return CrossEntropy()
    gradient: Loss = PolicyGradient.of(settings.gradient)
    if settings.entropy_control is not None:
        gradient = EntropyControl(PolicyGradient.of(settings.gradient), *settings.entropy_control)
    if settings.compared is None:
        return gradient
    divergence, coef = TeacherDivergence(), settings.teacher_coef * settings.on_policy_fraction
    if settings.reward_coef:
        return WeightedSum((Weighted("divergence", divergence, coef), Weighted("policy", gradient, 1.0)))
    return divergence if coef == 1 else Scaled(divergence, coef)


def _given_text(data: DistillData, teachers: Teachers, fill: Filler) -> Sequence[Auxiliary]:
    """The responses of rows beside the student's own (GKD with λ < 1)."""
    settings = data.settings
    if settings.on_policy_fraction == 1 or data.given is None:
        return ()
    require_own_prompts(teachers.sources)
    loss = Scaled(TeacherDivergence(), settings.teacher_coef * (1 - settings.on_policy_fraction))
    seed = data.context.recipe.seed
    return (Auxiliary("given", data.given.draws, loss, settings.groups_per_step, seed, fill, at_one=False),)
