"""Reference of a preference stage: its log-probabilities are precomputed, or computed in each step.

It is set up before training and before a checkpoint is restored, while the policy still has the weights with which the
stage began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.errors import ModelError
from burnish.methods import Annotating
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.load import load_policy
from burnish.model.open import resolve_model
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.recipe.recipe import Recipe
from burnish.roles.scorer import LiveScorer, Scorer, SnapshotScorer
from burnish.sources.annotate import ReferenceSync, SyncedGroups, annotate_blocks
from burnish.sources.mismatched_pairs import mismatched
from burnish.sources.precomputed_reference import ReferenceRows, Rows, computed, identity, stored
from burnish.stages.open_policy import device_of
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.supervised_data import SupervisedData
from burnish.types import Group
from burnish.watch.counter import count_on_terminal


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


def with_reference(recipe: Recipe, settings: PreferSettings, inputs: SupervisedData, policy: Model) -> ReferencedData:
    """Fills in the reference log-probabilities of a stage's rows, or sets up the scorer that does in each step.

    Raises:
        ModelError: the reference is another model that cannot be used.
        DataError: rows are invalid; all are read here.
    """
    measured = [] if inputs.held_out is None else list(inputs.held_out.groups)
    if settings.measures_mismatches:
        measured += mismatched(measured, seed=recipe.seed, step=0, max_length=inputs.opener.reader.max_length)
    if not settings.has_reference:
        return ReferencedData(inputs.feed, None, measured, "", ())
    model = policy if settings.reference_model is None else other_model(recipe, settings.reference_model, policy)
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
    inputs: SupervisedData,
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


def other_model(recipe: Recipe, name: str, policy: Model) -> Model:
    """Loads a frozen reference model for the policy's tokens.

    Raises:
        ModelError: it cannot be loaded, or has another tokenizer.
    """
    model = load_policy(resolve_model(name), dtype=recipe.dtype, device=device_of(recipe))
    for parameter in model.model.parameters():
        parameter.requires_grad_(False)
    if model.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise ModelError(
            given=f"reference_model: {name}, whose tokenizer has other tokens than that of the policy",
            rule="the reference scores the policy's own tokens",
            remedy="name a model with the same tokenizer, or remove reference_model",
        )
    return model
