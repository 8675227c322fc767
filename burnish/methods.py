"""The methods: each a source, a credit rule and a loss, with vetted defaults and the paper it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from burnish.credit.rule import CreditRule
from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.sampling.base import Sampler
from burnish.sampling.params import SamplingParams
from burnish.sources.annotate import AnnotatedSource, FrozenScorer, LiveScorer, ReferenceSync
from burnish.sources.base import Source
from burnish.sources.mismatched_source import MismatchedSource
from burnish.sources.rollouts import FillStreams, GradeResponses, RolloutPrompt, RolloutSource
from burnish.sources.rows import RowSource
from burnish.sources.settings import RolloutSettings
from burnish.sources.value_targets import JudgedAt, ValueTargetRows, value_target_at_end
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class Method:
    """Where groups come from and what is minimised on them."""

    source: Source
    loss: Loss


@dataclass(frozen=True, slots=True)
class Learning:
    """What becomes of graded groups, and what is minimised on that."""

    rule: CreditRule
    loss: Loss
    needs_reference: bool


def sft(
    rows: Sequence[Sequence[Group]],
    *,
    sequences_per_step: int = 32,
    seed: int = 0,
    epochs: float = 1.0,
    max_steps: int | None = None,
    epoch_rows: int | None = None,
    loss: Loss | None = None,
) -> Method:
    """Supervised fine-tuning: the likelihood of given responses (Wei et al. 2021, arXiv 2109.01652).

    Groups of one response from rows of data; no credit rule; cross-entropy over the trained tokens of the whole step.
    """
    source = RowSource(
        rows,
        sequences_per_step=sequences_per_step,
        seed=seed,
        epochs=epochs,
        max_steps=max_steps,
        epoch_rows=epoch_rows,
    )
    return Method(source, loss or CrossEntropy())


@dataclass(frozen=True, eq=False, slots=True)
class Annotating:
    """Who gives the reference's log-probabilities to groups that have none, step by step."""

    reference: FrozenScorer | LiveScorer
    budget: int
    """Most tokens of a microbatch."""
    moves: ReferenceSync | None = None
    """How it follows the policy; None: it stays."""


def prefer(
    rows: Sequence[Sequence[Group]],
    loss: Loss,
    *,
    annotating: Annotating | None = None,
    mismatches: bool = False,
    max_length: int | None = None,
    sequences_per_step: int = 32,
    seed: int = 0,
    epochs: float = 1.0,
    max_steps: int | None = None,
    epoch_rows: int | None = None,
) -> Method:
    """Learning from comparisons and verdicts; which method it is, the loss says (see `burnish.losses.preference`).

    Groups of several responses, best first, from rows of data; the reference's log-probabilities are theirs, or given
    by `annotating`. With `mismatches` each step measures prompts joined to other prompts' responses (KTO), of at most
    `max_length` tokens.
    """
    source: Source = RowSource(
        rows,
        sequences_per_step=sequences_per_step,
        seed=seed,
        epochs=epochs,
        max_steps=max_steps,
        epoch_rows=epoch_rows,
    )
    if mismatches:
        source = MismatchedSource(source, seed=seed, max_length=max_length)
    if annotating is not None:
        source = AnnotatedSource(source, annotating.reference, annotating.budget, annotating.moves)
    return Method(source, loss)


def reward(
    rows: Sequence[Sequence[Group]],
    loss: Loss | None = None,
    *,
    judged_at: JudgedAt = value_target_at_end,
    sequences_per_step: int = 32,
    seed: int = 0,
    epochs: float = 1.0,
    max_steps: int | None = None,
    epoch_rows: int | None = None,
) -> Method:
    """A reward model from comparisons (Christiano et al. 2017, arXiv 1706.03741; Ouyang et al. 2022, arXiv 2203.02155).

    Groups of several responses, best first, each judged at its last token (or elsewhere, `judged_at`); Bradley–Terry,
    unless told otherwise.
    """
    source = RowSource(
        ValueTargetRows(rows, judged_at),
        sequences_per_step=sequences_per_step,
        seed=seed,
        epochs=epochs,
        max_steps=max_steps,
        epoch_rows=epoch_rows,
    )
    return Method(source, loss or BradleyTerry())


def dpo(rows: Sequence[Sequence[Group]], annotating: Annotating, *, beta: float = 0.1, seed: int = 0) -> Method:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290): one epoch of pairs, 32 a step."""
    return prefer(rows, preference_loss("dpo", beta=beta).loss, annotating=annotating, seed=seed)


def rl(
    prompts: Sequence[RolloutPrompt],
    sampler: Sampler,
    judge: GradeResponses,
    decode: Callable[[Sequence[int]], str],
    learning: Learning,
    *,
    params: SamplingParams,
    settings: RolloutSettings,
    annotate: FillStreams | None = None,
    seed: int = 0,
    epochs: float = 1.0,
    max_steps: int | None = None,
    curriculum: bool = False,
    weights: Mapping[str, float] | None = None,
) -> Method:
    """Learning by trying: groups of responses that the policy writes, judged and credited or compared; which method it
    is, the rule and the loss say (see `burnish.algorithms`). `annotate` gives the reference's log-probabilities where
    they are needed; `weights` are those of the rewards, by their parts."""
    assert annotate or not learning.needs_reference, "a reference is given"
    source = RolloutSource(
        prompts,
        sampler,
        judge,
        decode,
        learning.rule,
        params,
        settings,
        seed,
        epochs,
        max_steps,
        curriculum,
        annotate,
        weights or {},
    )
    return Method(source, learning.loss)
