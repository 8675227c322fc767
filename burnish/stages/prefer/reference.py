"""Reference of a preference stage: its log-probabilities are precomputed, or computed in each step.

It is set up before training and before a checkpoint is restored, while the policy still has the weights with which the
stage began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.roles.scorer import LiveScorer, Scorer, SnapshotScorer
from burnish.sources.annotate import ReferenceSync, SyncedGroups, annotate_blocks
from burnish.sources.mismatched_pairs import mismatched
from burnish.sources.precomputed_reference import ReferenceRows, Rows, computed, identity, stored
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.supervised_data import SupervisedData
from burnish.types import Group
from burnish.watch.counter import count_on_terminal


@dataclass(frozen=True, eq=False, slots=True)
class Annotating:
    """Scorer that fills in reference log-probabilities in each step, for groups without them."""

    reference: SnapshotScorer | LiveScorer
    budget: int
    """Maximum number of tokens of a microbatch."""
    moves: ReferenceSync | None = None
    """Updates of the reference; None: it is fixed."""


@dataclass(frozen=True, eq=False, slots=True)
class ReferencedData:
    """Training and held-out rows of a stage with their reference."""

    rows: Rows
    annotating: Annotating | None
    """Scorer for groups without reference log-probabilities; None: all groups have them."""
    held_out: Sequence[Group]
    """Held-out groups; empty: there are none."""
    fingerprint: str
    """Fingerprint of the reference; "": there is none."""
    notes: tuple[str, ...]
    """Log lines about the origin of the values."""


def with_reference(inputs: SupervisedData[PreferSettings], policy: Model, model: Model) -> ReferencedData:
    """Fills in the reference log-probabilities of a stage's rows, or sets up the scorer that does in each step.

    Args:
        inputs: the stage's data.
        policy: the model that is trained.
        model: the reference; the policy itself: its weights of now.

    Raises:
        DataError: rows are invalid; all are read here.
    """
    settings = inputs.context.settings
    measured = [] if inputs.held_out is None else list(inputs.held_out.groups)
    if settings.measures_mismatches:
        seed, max_length = inputs.context.recipe.seed, inputs.context.reader.max_length
        measured += mismatched(measured, seed=seed, step=0, max_length=max_length)
    if not settings.has_reference:
        return ReferencedData(inputs.feed, None, measured, "", ())
    budget = inputs.tokens_per_microbatch
    if settings.reference_rule == "online":
        return _step_by_step(settings, inputs.feed, model, policy, measured, budget)
    return _beforehand(settings, inputs, model, policy, measured, budget)


def _step_by_step(
    settings: PreferSettings, rows: Rows, model: Model, policy: Model, measured: Sequence[Group], budget: int
) -> ReferencedData:
    fingerprint = whole_fingerprint(model)
    if model is not policy:
        live = LiveScorer(model)
        return ReferencedData(rows, Annotating(live, budget), _annotated(measured, live, budget), fingerprint, ())
    frozen = SnapshotScorer(Snapshot(policy))
    if settings.reference_sync_steps is None:
        return ReferencedData(rows, Annotating(frozen, budget), _annotated(measured, frozen, budget), fingerprint, ())
    moves = ReferenceSync(settings.reference_sync_steps, settings.reference_sync_alpha)
    following = SyncedGroups(measured, frozen, budget)
    return ReferencedData(rows, Annotating(frozen, budget, moves), following, fingerprint, ())


def _beforehand(
    settings: PreferSettings,
    inputs: SupervisedData[PreferSettings],
    model: Model,
    policy: Model,
    measured: Sequence[Group],
    budget: int,
) -> ReferencedData:
    """Precomputes the reference of all rows. Mismatched pairs differ from step to step, so they still need a scorer."""
    prepared = inputs.feed.whole()
    fingerprint = identity(model, inputs.feed.preparation.identity)
    progress = count_on_terminal("rows under the reference")
    if settings.reference_rule == "precomputed":
        values, note = stored(model, prepared.draws, fingerprint, progress)
    else:
        values, note = computed(model, prepared.draws, progress), "the reference is computed once"
    rows = ReferenceRows(inputs.feed, values)
    live = LiveScorer(model)
    scorer = live if model is not policy else SnapshotScorer(Snapshot(policy))
    annotating = Annotating(scorer, budget) if settings.measures_mismatches else None
    return ReferencedData(rows, annotating, _annotated(measured, live, budget), fingerprint, (note,))


def _annotated(groups: Sequence[Group], reference: Scorer, budget: int) -> list[Group]:
    return [group for block in annotate_blocks(groups, reference, budget) for group in block]
