"""The reference of a stage, as its recipe says: computed before the first step, or anew for each.

Beside `assemble`. It is asked before training and before a checkpoint is restored: the policy is then what it was when
the stage began.
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
from burnish.sources.annotate import FrozenScorer, LiveScorer, ReferenceSync, SyncedGroups, annotate_blocks
from burnish.sources.mismatched_pairs import mismatched
from burnish.sources.precomputed_reference import ReferenceRows, Rows, computed, identity, stored
from burnish.stages.open_policy import device_of
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.supervised_data import SupervisedData
from burnish.types import Group
from burnish.watch.counter import count_on_terminal


@dataclass(frozen=True, eq=False, slots=True)
class ReferencedData:
    """What a stage learns from and is measured on, with what its loss compares them with."""

    rows: Rows
    annotating: Annotating | None
    """Who annotates what has no reference; None: nothing lacks one."""
    held_out: Sequence[Group]
    """Empty: there are none."""
    fact: str
    """Identity of the reference; "": there is none."""
    notes: tuple[str, ...]
    """For people: where it comes from."""


def with_reference(recipe: Recipe, settings: PreferSettings, inputs: SupervisedData, policy: Model) -> ReferencedData:
    """Annotates the rows of a stage, or says who will.

    Raises:
        ModelError: the reference is another model that cannot be used.
        DataError: rows cannot be used; all are needed now.
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
    fact = whole_fingerprint(model)
    if model is not policy:
        asked = LiveScorer(model)
        return ReferencedData(rows, Annotating(asked, budget), _annotated(measured, asked, budget), fact, ())
    frozen = FrozenScorer(Snapshot(policy))
    if settings.reference_sync_steps is None:
        return ReferencedData(rows, Annotating(frozen, budget), _annotated(measured, frozen, budget), fact, ())
    moves = ReferenceSync(settings.reference_sync_steps, settings.reference_sync_alpha)
    following = SyncedGroups(measured, frozen, budget)
    return ReferencedData(rows, Annotating(frozen, budget, moves), following, fact, ())


def _beforehand(
    settings: PreferSettings,
    inputs: SupervisedData,
    model: Model,
    policy: Model,
    measured: Sequence[Group],
    budget: int,
) -> ReferencedData:
    """Mismatched pairs differ from step to step, so they still need somebody who annotates them."""
    prepared = inputs.feed.whole()
    fact = identity(model, inputs.feed.preparation.identity)
    told = count_on_terminal("rows under the reference")
    if settings.reference_rule == "precomputed":
        values, note = stored(model, prepared.draws, fact, told)
    else:
        values, note = computed(model, prepared.draws, told), "the reference is computed once"
    rows = ReferenceRows(inputs.feed, values)
    present = LiveScorer(model)
    later = present if model is not policy else FrozenScorer(Snapshot(policy))
    annotating = Annotating(later, budget) if settings.measures_mismatches else None
    return ReferencedData(rows, annotating, _annotated(measured, present, budget), fact, (note,))


def _annotated(groups: Sequence[Group], reference: LiveScorer | FrozenScorer, budget: int) -> list[Group]:
    return [group for block in annotate_blocks(groups, reference, budget) for group in block]


def other_model(recipe: Recipe, name: str, policy: Model) -> Model:
    """A model that only gives log-probabilities of the policy's tokens.

    Raises:
        ModelError: it cannot be loaded, or its tokenizer is another one.
    """
    model = load_policy(resolve_model(name), dtype=recipe.dtype, device=device_of(recipe))
    for parameter in model.model.parameters():
        parameter.requires_grad_(False)
    if model.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
        raise ModelError(
            given=f"reference_model: {name}, whose tokenizer has other tokens than that of the policy",
            rule="the reference gives log-probabilities of the policy's own tokens",
            remedy="name a model with the same tokenizer, or remove reference_model",
        )
    return model
