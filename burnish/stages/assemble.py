"""What all stages that train have in common: learner, schedule, cadence, stopping, dry run, fingerprints."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from burnish.evaluate.evaluator import Evaluator
from burnish.losses.base import Loss
from burnish.model.fingerprint import frozen_fingerprint
from burnish.model.noise import Neftune
from burnish.model.policy import Model
from burnish.runs.training_state import StatefulObject
from burnish.settings.optimizer import OptimizationSettings
from burnish.settings.stage import SupervisedSettings, TrainingSettings
from burnish.sources.base import Source
from burnish.sources.filled import SnapshotSync
from burnish.sources.rows import RowSource
from burnish.stages.data import StageData
from burnish.stages.role import POLICY
from burnish.stages.supervised_data import SupervisedData
from burnish.stages.updating import optimizer_of
from burnish.stages.user_loss import loss_identity
from burnish.train.auxiliary import Auxiliary
from burnish.train.cadence import Cadence
from burnish.train.dry_run import costliest
from burnish.train.early_stopping import EarlyStopping
from burnish.train.learner import Learner
from burnish.train.loop import Stage
from burnish.train.pause import Pause
from burnish.train.step import Trainer
from burnish.types import Group


def no_groups() -> Sequence[Group]:
    """No dry run."""
    return ()


@dataclass(frozen=True, eq=False, slots=True)
class StageParts:
    """Parts of a stage that depend on its kind."""

    source: Source
    loss: Loss
    evaluators: Sequence[Evaluator] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of its kind that must be equal when the run is resumed, by name."""
    notes: Sequence[str] = ()
    """Lines for the log before it begins."""
    dry_run_groups: Callable[[], Sequence[Group]] = no_groups
    """Groups of the largest microbatch with all streams, called if there is a dry run."""
    neftune: Neftune | None = None
    """Noise on the embeddings in training; None: none."""
    snapshots: Mapping[str, StatefulObject] = field(default_factory=dict)
    """Roles whose weights change without a learner, by name."""
    further_learners: Sequence[Learner] = ()
    """Learners of other roles than the policy, such as a critic."""
    penalties: Collection[str] = ()
    """Names of rewards of negative weight, of which less is better."""
    pause: Pause | None = None
    """Steps in which the policy is not trained; None: it is trained in all."""
    auxiliary: Sequence[Auxiliary] = ()
    """Losses of other rows that are added to the policy's."""


def assemble(data: StageData[TrainingSettings], policy: Model, name: str, parts: StageParts) -> Stage:
    """Builds a stage that trains the policy, ready to run.

    Raises:
        RecipeError: the optimizer cannot be used.
    """
    settings = data.context.settings
    steps = parts.source.num_steps
    cadence = Cadence(
        checkpoint_every=settings.checkpoint_every or math.ceil(steps / 10),
        keep_last=settings.checkpoints.keep_last,
        log_every=settings.log_every,
        eval_every=settings.eval_every,
    )
    return Stage(
        name=name,
        learners=(_policy_learner(data, policy, parts), *parts.further_learners),
        source=parts.source,
        cadence=cadence,
        evaluators=parts.evaluators,
        dry_run_groups=parts.dry_run_groups() if settings.has_dry_run(policy.device.type) else (),
        stopping=EarlyStopping(settings.stop_rule),
        snapshots=parts.snapshots,
        fingerprints={
            **data.fingerprints,
            **parts.fingerprints,
            "the model": frozen_fingerprint(policy),
            **{
                f"the {learner.name}": frozen_fingerprint(learner.model)
                for learner in parts.further_learners
                if learner.model.model is not policy.model
            },
            "the loss": loss_identity(parts.loss),
        },
        notes=(*policy.notes, *parts.notes),
        penalties=parts.penalties,
    )


def follow_optimizer(stage: Stage, sync: SnapshotSync | None) -> None:
    """Makes earlier weights of the policy follow the optimizer's, which are more precise than 16-bit ones."""
    if sync is not None:
        optimizer = stage.learners[0].trainer.optimizer
        sync.snapshot.follow_weights(dict(zip(optimizer.names, optimizer.masters.weights, strict=True)))


def _policy_learner(data: StageData[TrainingSettings], policy: Model, parts: StageParts) -> Learner:
    steps = parts.source.num_steps - (0 if parts.pause is None else parts.pause.first_steps)
    learner = learner_of(data, POLICY, policy, parts.loss, steps, neftune=parts.neftune)
    return replace(learner, pause=parts.pause, auxiliary=parts.auxiliary)


def learner_of(
    data: StageData[TrainingSettings],
    role: str,
    model: Model,
    loss: Loss,
    steps: int,
    *,
    optimization: OptimizationSettings | None = None,
    neftune: Neftune | None = None,
) -> Learner:
    """Learner of a role.

    Args:
        data: data of the stage.
        role: name of the role.
        model: its model.
        loss: its loss.
        steps: number of optimizer steps of the learner.
        optimization: its optimizer and schedule; None: those of the stage.
        neftune: noise on the embeddings in training; None: none.

    Raises:
        RecipeError: the optimizer cannot be used.
    """
    settings = optimization or data.context.settings
    optimizer = optimizer_of(data.context.recipe, settings, model)
    trainer = Trainer(model, optimizer, settings.optimizer.max_grad_norm, neftune, data.context.world)
    return Learner(role, trainer, loss, settings.schedule_of(steps), data.tokens_per_microbatch)


def row_source(data: SupervisedData[SupervisedSettings], rows: Sequence[Sequence[Group]]) -> RowSource:
    """Source of a stage that learns from rows.

    Args:
        data: its data.
        rows: the groups of each row, as `data.feed` has them or with further streams.
    """
    settings = data.context.settings
    return RowSource(
        rows,
        sequences_per_step=settings.draws_per_step,
        seed=data.context.recipe.seed,
        epochs=settings.epochs or 1.0,
        max_steps=settings.max_steps,
        epoch_rows=data.epoch_rows,
    )


def costliest_rows(data: SupervisedData[SupervisedSettings]) -> list[Group]:
    """Groups of rows of the largest microbatch, for the dry run."""
    max_groups = data.context.settings.draws_per_step
    return costliest(data.feed.longest(max_groups), data.tokens_per_microbatch, max_groups)
