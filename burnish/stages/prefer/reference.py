"""Reference of a preference stage: its log-probabilities are precomputed, or filled in each step.

It is set up before training and before a checkpoint is restored, while the policy still has the weights with which the
stage began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.parallel.world import ONE_PROCESS
from burnish.roles.filler import FollowingGroups, StreamFiller
from burnish.roles.precomputed import BUDGET, Rows, computed, identity, stored
from burnish.roles.scorer import LiveScorer, Scorer, SnapshotScorer
from burnish.sources.filled import FilledRows, SnapshotSync
from burnish.sources.mismatched_pairs import mismatched
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.supervised_data import SupervisedData
from burnish.types import Group
from burnish.watch.counter import count_on_terminal

STREAM = "reference_logprobs"


@dataclass(frozen=True, eq=False, slots=True)
class ReferencedData:
    """Training and held-out rows of a stage with their reference."""

    rows: Rows
    held_out: Sequence[Group]
    """Held-out groups; empty: there are none."""
    filler: StreamFiller | None = None
    """Fills the stream in each step, for groups without it; None: all groups have it, or need none."""
    sync: SnapshotSync | None = None
    """Updates of the reference; None: it is fixed."""
    fingerprint: str = ""
    """Fingerprint of the reference; "": there is none."""
    notes: tuple[str, ...] = ()
    """Log lines about the origin of the values."""


def with_reference(data: SupervisedData[PreferSettings], policy: Model, reference: Model) -> ReferencedData:
    """Precomputes the reference log-probabilities of a stage's rows, or sets up the filler for each step.

    Args:
        data: the stage's data.
        policy: the model that is trained.
        reference: the reference model; if it is the policy itself, the reference has the policy's present weights.

    Raises:
        DataError: rows are invalid; all are read here.
    """
    settings, context = data.context.settings, data.context
    held_out = [] if data.held_out is None else list(data.held_out.groups)
    if settings.measures_mismatches:
        held_out += mismatched(held_out, seed=context.recipe.seed, step=0, max_length=context.reader.max_length)
    if not settings.has_reference:
        return ReferencedData(data.feed, held_out)
    # The live weights are those of the reference until the first step, and need no copy.
    at_start = StreamFiller(LiveScorer(reference), STREAM, data.tokens_per_microbatch, world=context.world)
    if settings.reference_rule == "online":
        return _online(data, policy, reference, held_out, at_start)
    return _precomputed(data, policy, reference, held_out, at_start)


def _online(
    data: SupervisedData[PreferSettings], policy: Model, reference: Model, held_out: list[Group], at_start: StreamFiller
) -> ReferencedData:
    """Rows whose reference log-probabilities a filler computes in each step."""
    settings, fingerprint = data.context.settings, whole_fingerprint(reference)
    if reference is not policy or settings.reference_sync_steps is None:
        later = replace(at_start, scorer=_lasting(policy, reference), only_missing=True)
        return ReferencedData(data.feed, list(at_start.in_blocks(held_out)), later, fingerprint=fingerprint)
    snapshot = Snapshot(policy)
    filler = replace(at_start, scorer=SnapshotScorer(snapshot), only_missing=True)
    sync = SnapshotSync(snapshot, settings.reference_sync_steps, settings.reference_sync_alpha)
    following = FollowingGroups(held_out, replace(filler, only_missing=False), snapshot)
    return ReferencedData(data.feed, following, filler, sync, fingerprint)


def _precomputed(
    data: SupervisedData[PreferSettings], policy: Model, reference: Model, held_out: list[Group], at_start: StreamFiller
) -> ReferencedData:
    """Rows whose reference log-probabilities are computed now. Mismatched pairs, which differ from step to step, have a
    filler."""
    settings, prepared = data.context.settings, data.feed.whole()
    fingerprint = identity(reference, data.feed.preparation.identity)
    progress, filler = count_on_terminal("rows under the reference"), replace(at_start, budget=BUDGET)
    if settings.reference_rule == "precomputed" and not reference.placement.is_divided:
        # One process computes under the lock of the cache's entry, and the others read: none may wait for another.
        alone = replace(filler, world=ONE_PROCESS)
        values, note = stored(alone, prepared.draws, fingerprint, reference.causal_lm.dtype, progress)
    else:
        values, note = computed(filler, prepared.draws, progress), "the reference is computed once"
    later = None
    if settings.measures_mismatches:
        later = replace(at_start, scorer=_lasting(policy, reference), only_missing=True)
    rows = FilledRows(data.feed, values, filler)
    return ReferencedData(rows, list(at_start.in_blocks(held_out)), later, None, fingerprint, (note,))


def _lasting(policy: Model, reference: Model) -> Scorer:
    """Scorer of the reference for the whole stage: the reference model, or a copy of the policy's initial weights."""
    return LiveScorer(reference) if reference is not policy else SnapshotScorer(Snapshot(policy))
