"""Opened data of a stage whose responses the policy generates: prompts, held-out prompts, rewards.

`supervised_data` has the counterpart for stages that learn from responses in rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np

from burnish.data.in_common import prompts_in_common
from burnish.data.prompts import Prompts, TokenizedPrompt, prompts
from burnish.data.shown_text import shown_text
from burnish.data.split import Split
from burnish.grading.reward_runner import RewardRunner
from burnish.grading.verdict_cache import VerdictCache
from burnish.model.stop_tokens import end_of_turn
from burnish.rewards.user_code import RESERVED_COLUMNS
from burnish.stages.context import StageContext
from burnish.stages.data import DataArtifacts, StageData
from burnish.stages.epochs import epoch_line, usable_clause
from burnish.stages.models import device_of
from burnish.stages.named_models import placed_rewards
from burnish.stages.on_policy.settings import OnPolicySettings

P_co = TypeVar("P_co", bound=OnPolicySettings, covariant=True)

VERDICTS = "verdicts.jsonl"
"""File in the stage's folder with the cached verdicts of slow or expensive rewards."""


@dataclass(frozen=True, eq=False, slots=True)
class OnPolicyData(StageData[P_co], Generic[P_co]):
    """Prompts of a stage, and the runner of its rewards."""

    train: Prompts
    held_out: Prompts | None
    """Held-out prompts; None: there are none."""
    judge: RewardRunner
    split: Split | None = None
    """How held-out rows were taken out of the training data; None: they were not."""

    @classmethod
    def of(cls, context: StageContext[P_co]) -> Self:
        """Opens the data.

        Raises:
            DataError: rows are invalid, or prompts are too long.
        """
        settings = context.settings
        rows = context.reader.open_stage(settings.data, settings.held_out_data, settings.held_out_share)
        train = prompts(rows.train.preparation, settings.max_new_tokens)
        held_out = None if rows.held_out is None else prompts(rows.held_out.preparation, settings.max_new_tokens)
        device, rewards = str(device_of(context.recipe)), placed_rewards(context)
        judge = (
            RewardRunner(rewards, device=device, resolve_model=context.resolve_model)
            if settings.reward_workers is None
            else RewardRunner(rewards, settings.reward_workers, device=device, resolve_model=context.resolve_model)
        )
        return cls(context, train, held_out, judge, rows.split)

    @property
    def settings(self) -> P_co:
        """Settings of the stage."""
        return self.context.settings

    @property
    def fingerprints(self) -> dict[str, str]:
        held_out = "" if self.held_out is None else self.held_out.preparation.identity
        return {"the data": self.train.preparation.identity, "the held-out data": held_out}

    @property
    def rewards_identity(self) -> str:
        """sha256 of everything that determines a verdict, the source of user functions included."""
        parts = [reward.identity for reward in self.judge.rewards]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def held_out_prompts(self) -> list[TokenizedPrompt]:
        """The held-out prompts of an evaluation, drawn by the seed; empty: there are none."""
        if self.held_out is None:
            return []
        order = np.random.default_rng([self.context.reader.seed, 0xE7A]).permutation(len(self.held_out.tokenized))
        return [self.held_out.tokenized[index] for index in sorted(order[: self.settings.evaluation.prompts].tolist())]

    @property
    def background(self) -> AbstractContextManager[object]:
        return self.judge

    def at_work(self, folder: Path) -> AbstractContextManager[object]:
        """Context manager around training: caches verdicts of rewards with `cache` in the stage's folder, and stops the
        processes of rewards at the end."""
        stack = ExitStack()
        stack.enter_context(self.judge)
        if any(reward.cache for reward in self.judge.rewards):
            rank = self.context.world.rank  # each process has verdicts of its own prompts
            self.judge.journal = stack.enter_context(
                VerdictCache.open(folder / (f"{rank}-{VERDICTS}" if rank else VERDICTS))
            )
        return stack

    @property
    def artifacts(self) -> DataArtifacts:
        template, tokenizer = self.context.reader.template, self.context.reader.tokenizer
        end = end_of_turn(tokenizer, template) if self.train.spoken else None
        ends = frozenset(() if end is None else (end,))
        return DataArtifacts(template.saved if self.train.spoken else None, ends, self.train.preparation.identity)

    def report(self) -> Iterator[str]:
        """Log lines before training: held-out data, rewards, and the first prompt."""
        if self.split is not None:
            yield self.split.line()
        if self.held_out is not None:
            yield from self.held_out.lines()
            yield from prompts_in_common(self.train, self.held_out)
        if self.judge.rewards:
            yield "rewards: " + ", ".join(f"{reward.weight:g} × {reward.key}" for reward in self.judge.rewards)
        if shadowed := [name for name in RESERVED_COLUMNS if name in self.train.columns]:
            yield f"columns that no reward function gets, since their names are the program's: {', '.join(shadowed)}"
        yield self._epoch()
        tokenizer = self.context.reader.tokenizer
        yield f"the first prompt:\n{shown_text(self.train.tokenized[0].tokens.tolist(), tokenizer)}"

    def _epoch(self) -> str:
        """Line with the length of an epoch, and the number of usable rows."""
        train, rows = self.train, len(self.train.preparation.builder.rows)
        left_out = [f"{train.dropped:,} too long"] if train.dropped else []
        left_out += [f"{len(train.unusable):,} invalid"] if train.unusable else []
        usable = usable_clause(len(train.tokenized), rows, left_out)
        draws, rollouts = len(train.tokenized), self.settings.rollouts
        return epoch_line(draws, "prompts", rollouts.groups_per_step, usable, rollouts.num_steps(draws))

    def lines(self) -> Iterator[str]:
        """Log lines of the report of all rows."""
        yield from self.train.lines()

    def card(self) -> dict[str, object]:
        """Content of data.json for the stage."""
        roles = {"training": self.train, **({} if self.held_out is None else {"held out": self.held_out})}
        sets = [{"role": role, **prompts.card()} for role, prompts in roles.items()]
        if self.held_out is not None:
            in_common = [line.strip() for line in prompts_in_common(self.train, self.held_out)]
            sets[-1] |= {"notes": [*self.held_out.notes, *in_common]}
        return {"mixture": [], "sets": sets}

    def unusable(self) -> str:
        """JSON lines: every row that was left out, with the reason."""
        sets = [self.train] if self.held_out is None else [self.train, self.held_out]
        rows = [asdict(row) for prompts in sets for row in prompts.left_out]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
