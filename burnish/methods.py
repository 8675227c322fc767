"""Training methods: each is a source, a credit rule and a loss, with defaults and its paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from burnish.credit.rule import CreditRule
from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.roles.scorer import Scorer
from burnish.sampling.base import Sampler
from burnish.sampling.params import SamplingParams
from burnish.sources.annotate import AnnotatedSource, ReferenceSync
from burnish.sources.base import Source
from burnish.sources.mismatched_source import MismatchedSource
from burnish.sources.rollouts import FillStreams, GradeResponses, RolloutPrompt, RolloutSource
from burnish.sources.rows import RowSource
from burnish.sources.settings import RolloutSettings
from burnish.sources.value_targets import JudgedAt, ValueTargetRows, value_target_at_end
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class Method:
    """A source of groups, and the loss that is minimized on them."""

    source: Source
    loss: Loss


@dataclass(frozen=True, slots=True)
class Learning:
    """The credit rule of graded groups, and the loss that is minimized on its result."""

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
    """Scorer that fills in reference log-probabilities in each step, for groups without them."""

    reference: Scorer
    budget: int
    """Maximum number of tokens of a microbatch."""
    moves: ReferenceSync | None = None
    """Updates of the reference; None: it is fixed."""


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
    """Preference learning from comparisons or verdicts; the loss determines the method (see `losses.preference`).

    Groups of several responses, best first, from rows of data; reference log-probabilities are in the rows, or filled
    in by `annotating`. With `mismatches` each step also scores prompts joined to other prompts' responses (KTO), of at
    most `max_length` tokens.
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
    """Reward model training (Christiano et al. 2017, arXiv 1706.03741; Ouyang et al. 2022, arXiv 2203.02155).

    Groups of several responses, best first, with a value target at the last token of each (or elsewhere, `judged_at`).
    The default loss is Bradley–Terry.
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
    """Direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290): one epoch of pairs, 32 per step."""
    return prefer(rows, preference_loss("dpo", beta=beta).loss, annotating=annotating, seed=seed)


def rl(
    prompts: Sequence[RolloutPrompt],
    sampler: Sampler,
    grade: GradeResponses,
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
    """Reinforcement learning: groups of responses sampled from the policy, graded, then credited or paired; the rule
    and the loss determine the method (see `burnish.algorithms`). `annotate` fills in reference log-probabilities where
    they are needed; `weights` are those of the rewards, by name."""
    assert annotate or not learning.needs_reference, "a method with a reference has a scorer of it"
    source = RolloutSource(
        prompts,
        sampler,
        grade,
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
