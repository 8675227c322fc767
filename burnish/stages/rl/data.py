"""What a stage of learning by trying begins with: its prompts, those that are held out, and who judges.

Beside `inputs`, whose `Inputs` has the rows of stages that learn from answers; `run` and `assemble` take either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from burnish.data.prompts import Prompts, prompts
from burnish.model.stop_tokens import end_of_turn
from burnish.sources.rollouts import RolloutPrompt
from burnish.stages.epochs import epoch_line, usable_clause
from burnish.stages.rl.settings import RlSettings
from burnish.stages.supervised_data import DataArtifacts, StageContext
from burnish.tasks.journal import VerdictCache
from burnish.tasks.reward_runner import RewardRunner

VERDICTS = "verdicts.jsonl"
"""In the stage's folder: what slow or dear rewards said."""


@dataclass(frozen=True, eq=False, slots=True)
class RLData:
    """Prompts to try, and their judge."""

    opener: StageContext
    settings: RlSettings
    train: Prompts
    held_out: Prompts | None
    """None: nothing is measured but the training itself."""
    judge: RewardRunner

    @classmethod
    def of(cls, opener: StageContext) -> Self:
        """Opened before the model is loaded, so that mistakes in the data show at once.

        Raises:
            DataError: rows cannot be used, or prompts are too long.
        """
        settings = opener.stage
        assert isinstance(settings, RlSettings), "stages that learn from answers have `Inputs`"
        train = prompts(opener.reader.open(settings.data).preparation, settings.max_new_tokens)
        held_out = None
        if settings.eval_data is not None:
            held_out = prompts(opener.reader.open(settings.eval_data).preparation, settings.max_new_tokens)
        judge = (
            RewardRunner(settings.rewards)
            if settings.reward_workers is None
            else RewardRunner(settings.rewards, settings.reward_workers)
        )
        return cls(opener, settings, train, held_out, judge)

    @property
    def tokens_per_microbatch(self) -> int:
        return self.opener.reader.tokens_per_microbatch

    @property
    def facts(self) -> dict[str, str]:
        """What is tried and measured on, by identity, as `StageContext.facts` has it."""
        held_out = "" if self.held_out is None else self.held_out.preparation.identity
        return {"the data": self.train.preparation.identity, "the held-out data": held_out}

    @property
    def rewards_identity(self) -> str:
        """sha256 of all that decides a verdict, the text of own functions included."""
        parts = [reward.identity for reward in self.judge.rewards]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def asked(self) -> list[RolloutPrompt]:
        """What is tried."""
        return _asked(self.train, range(len(self.train.waiting)))

    def examined(self) -> list[tuple[int, RolloutPrompt]]:
        """Row and prompt of what is asked at every evaluation, drawn by the seed; empty: nothing is."""
        if self.held_out is None:
            return []
        count = len(self.held_out.waiting)
        order = np.random.default_rng([self.opener.reader.seed, 0xE7A]).permutation(count)
        places = sorted(order[: self.settings.evaluation.prompts].tolist())
        return list(zip([self.held_out.waiting[i].row for i in places], _asked(self.held_out, places), strict=True))

    @property
    def beside(self) -> AbstractContextManager[object]:
        """Leaving it ends the processes that judge."""
        return self.judge

    def at_work(self, folder: Path) -> AbstractContextManager[object]:
        """While the stage trains: verdicts of rewards with `cache` are written into the stage's folder, and the
        processes that judge end with it."""
        stack = ExitStack()
        stack.enter_context(self.judge)
        if any(reward.cache for reward in self.judge.rewards):
            self.judge.journal = stack.enter_context(VerdictCache.open(folder / VERDICTS))
        return stack

    def when_ready(self, then: Callable[[], None]) -> None:
        """Has the function called: everything is ready."""
        then()

    @property
    def learned(self) -> DataArtifacts:
        """What the model's folder and the summary say of the data."""
        template, tokenizer = self.opener.reader.template, self.opener.reader.tokenizer
        end = end_of_turn(tokenizer, template) if self.train.spoken else None
        ends = frozenset(() if end is None else (end,))
        return DataArtifacts(template.saved if self.train.spoken else None, ends, self.train.preparation.identity)

    def report(self) -> Iterator[str]:
        """Lines for people: what is measured on, what judges, and the first prompt."""
        if self.held_out is not None:
            yield from self.held_out.lines()
        yield "rewards: " + ", ".join(f"{reward.weight:g} × {reward.key}" for reward in self.judge.rewards)
        yield self._epoch()
        tokenizer = self.opener.reader.tokenizer
        yield f"the first prompt, which is continued:\n{tokenizer.decode(list(self.train.waiting[0].tokens))}"

    def _epoch(self) -> str:
        """How long an epoch is, and how many rows are usable."""
        train, rows = self.train, len(self.train.preparation.maker.rows)
        left_out = [f"{train.dropped:,} too long"] if train.dropped else []
        left_out += [f"{len(train.unusable):,} that cannot be used"] if train.unusable else []
        usable = usable_clause(len(train.waiting), rows, left_out)
        return epoch_line(len(train.waiting), "prompts", self.settings.groups_per_step, usable)

    def lines(self) -> Iterator[str]:
        """What became of the rows, for people."""
        yield from self.train.lines()

    def card(self) -> dict[str, object]:
        """What data.json holds of the stage."""
        roles = {"training": self.train, **({} if self.held_out is None else {"held out": self.held_out})}
        return {"mixture": [], "sets": [{"role": role, **each.card()} for role, each in roles.items()]}

    def unusable(self) -> str:
        """JSON lines: every row that was left out because it cannot be used, with the reason."""
        sets = [self.train] if self.held_out is None else [self.train, self.held_out]
        rows = [asdict(row) for each in sets for row in each.unusable]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _asked(found: Prompts, places: range | list[int]) -> list[RolloutPrompt]:
    chosen = [found.waiting[place] for place in places]
    return [RolloutPrompt(torch.tensor(each.tokens, dtype=torch.int64), each.task) for each in chosen]
