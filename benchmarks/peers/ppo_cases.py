"""Cases of PPO with a critic: sizes, lengths, and the settings of every contender."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any, Self

from peers.cases import FLOAT32, Case, Contender

ROWS_PER_BATCH = {"1M": 64, "15M": 16}
"""Responses of a batch."""
RESPONSES = 4
"""To each prompt. TRL generates one response to each row, so that its rows repeat the prompts."""
SHORTEST, LONGEST = 32, 128
"""Tokens of a prompt."""
WRITTEN = 64
"""Tokens of every response: no token ends one earlier."""
EPOCHS = 4
"""Passes over a batch; TRL's default."""
MINIBATCHES = 1
"""Updates of each pass; TRL's default, and the only number with which TRL may cut a batch into microbatches and train
the same: with more, a microbatch of TRL is a whole minibatch."""
LEARNING_RATE = 1e-5
LAMBDA, KL_COEF, CLIP = 0.95, 0.05, 0.2
"""TRL's defaults, also of the returns and of the values' clip."""
PARTS = ("sampling", "scoring", "updates")
"""Parts of a batch. Scoring: log-probabilities of the reference, values, scores of the reward model, advantages."""
AGREEMENT = 1e-4
"""Largest relative difference of float32 results from the same responses."""

BURNISH = Contender("burnish", "burnish")


def _trl(rows: int, scored: int) -> Contender:
    """TRL with this many rows of a microbatch, and of a forward in sampling and scoring."""
    settings = {**FLOAT32, "local_rollout_forward_batch_size": scored}
    return Contender(f"TRL, {rows} rows, {scored} in rollouts", "trl", rows, settings)


CANDIDATES = {
    "1M": tuple(_trl(*sizes) for sizes in ((64, 64), (64, 16), (16, 64), (8, 64), (4, 64), (8, 16))),
    "15M": tuple(_trl(*sizes) for sizes in ((16, 16), (16, 4), (4, 16), (2, 16), (1, 16), (2, 4))),
}
"""Candidates for TRL's fastest setting, searched once per size, if they divide a batch."""
SEARCHED = tuple(chain.from_iterable(CANDIDATES.values()))
CASES = tuple(Case(size, "prompts", "full", count) for size, count in ROWS_PER_BATCH.items())


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a batch."""

    responses: int = RESPONSES
    """To each prompt."""
    minibatches: int = MINIBATCHES
    """Updates of each pass."""

    def of(self, contender: Contender) -> Contender:
        """The contender with this shape, which its own process reads."""
        return replace(contender, settings={**contender.settings, "shape": asdict(self)})

    @classmethod
    def in_settings(cls, settings: dict[str, Any]) -> Self:
        """The shape, which is taken out of a contender's settings."""
        return cls(**settings.pop("shape"))


def candidates(case: Case, shape: Shape) -> list[Contender]:
    """TRL's settings that train the same in a case. (Rollouts of more rows than a batch has are those of a batch.)"""
    rows, known = case.rows_per_step, CANDIDATES[case.size]
    possible = [each for each in known if (each.batch == rows if shape.minibatches > 1 else rows % each.batch == 0)]
    return [shape.of(each) for each in possible]
