"""Groups of answers in, verdicts out: what a source of rollouts calls.

The top of `burnish.tasks`. Rewards are asked in worker processes; those with a condition once the rewards that they
depend on are known; those with ``cache`` only where the journal does not know already. The result does not depend on
how many workers there are, or on who was faster.

    with Judge(read_rewards("math")) as judge:
        [[verdict]] = judge([[Answer("2 + 2?", "It is 4.", reference="4")]])
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from burnish.tasks.journal import VerdictCache, content_key
from burnish.tasks.pool import Job, Pool
from burnish.tasks.protocol import Request, Work
from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward, combine, met, unasked
from burnish.tasks.verdict import Outcome, Verdict

Groups = Sequence[Sequence[ResponseView]]
"""The answers to each prompt."""

BUILTIN_MEMORY = 4 << 30
"""Bytes that a worker may have where all rewards need little; a user's own, and a model, may need any."""
MOST_WORKERS = 8


@dataclass(frozen=True, slots=True)
class _Unit:
    """Answers that a reward judges together."""

    places: tuple[int, ...]
    """Their places among all answers."""
    parts: tuple[int, ...]
    """The rewards."""


@dataclass(eq=False)
class RewardRunner:
    """Rewards and the processes that ask them. A context: the processes end with it."""

    rewards: tuple[Reward, ...]
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, MOST_WORKERS))
    """Processes; started when there is work."""
    journal: VerdictCache | None = None
    """Where rewards with ``cache: true`` are kept; None: nowhere. Closed by its owner."""
    _pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        assert self.workers >= 1, f"answers are judged by at least one process, got {self.workers}"
        bounded = all(reward.bounded for reward in self.rewards)
        self._pool = Pool(Work(self.rewards, BUILTIN_MEMORY if bounded else None), self.workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; another call starts them again."""
        self._pool.close()

    def __call__(self, groups: Groups) -> list[list[Verdict]]:
        """Judges the answers to some prompts.

        Returns:
            A verdict for each answer, in the same order.

        Raises:
            RecipeError: a reward cannot be loaded, or breaks its contract (as many verdicts as answers).
        """
        answers = [answer for group in groups for answer in group]
        found: list[dict[int, Outcome]] = [{} for _ in answers]
        for depth in range(1 + max(map(self._depth, range(len(self.rewards))), default=0)):
            parts = tuple(part for part in range(len(self.rewards)) if self._depth(part) == depth)
            self._ask(list(self._units(groups, parts, found)), answers, found)
        verdicts = (combine(self.rewards, self._named(parts)) for parts in found)
        return [[next(verdicts) for _ in group] for group in groups]

    def _depth(self, part: int) -> int:
        """How many conditions stand before a reward."""
        when = self.rewards[part].when
        return 0 if when is None else 1 + self._depth([reward.key for reward in self.rewards].index(when.metric))

    def _named(self, parts: dict[int, Outcome]) -> dict[str, Outcome]:
        """By part's name, in the recipe's order."""
        return {reward.key: parts[part] for part, reward in enumerate(self.rewards) if part in parts}

    def _units(self, groups: Groups, parts: tuple[int, ...], found: list[dict[int, Outcome]]) -> Iterator[_Unit]:
        """What is to be asked at this depth; what need not be asked is found at once."""
        place = 0
        for group in groups:
            places = range(place, place + len(group))
            place += len(group)
            asked = {part: tuple(each for each in places if self._is_asked(part, found[each])) for part in parts}
            yield from (_Unit(asked[part], (part,)) for part in parts if self.rewards[part].by_group and asked[part])
            for each in places:
                alone = tuple(part for part in parts if not self.rewards[part].by_group and each in asked[part])
                if alone:
                    yield _Unit((each,), alone)

    def _is_asked(self, part: int, known: dict[int, Outcome]) -> bool:
        reward = self.rewards[part]
        if reward.when is None or met(reward, self._named(known)):
            return True
        known[part] = unasked(reward, self._named(known))
        return False

    def _ask(self, units: Sequence[_Unit], answers: Sequence[ResponseView], found: list[dict[int, Outcome]]) -> None:
        """Fills in what the units' rewards say. The same question, by content, is asked once where a journal is."""
        together = [tuple(answers[place] for place in unit.places) for unit in units]
        keys = {(at, part): self._key(at, part, together[at]) for at, unit in enumerate(units) for part in unit.parts}
        readers: dict[str, list[tuple[int, int]]] = {}
        for question, key in keys.items():
            readers.setdefault(key, []).append(question)

        def fill(key: str, outcomes: Sequence[Outcome]) -> None:
            for at, part in readers[key]:
                for place, outcome in zip(units[at].places, outcomes, strict=True):
                    found[place][part] = outcome

        def told(job: Job, part: int, outcomes: list[Outcome]) -> None:
            key = keys[job.place, part]
            if self.journal is not None and self.rewards[part].cache:
                self.journal.write(key, self.rewards[part].key, outcomes)
            fill(key, outcomes)

        known = {} if self.journal is None else {key: self.journal.read(key) for key in readers}
        jobs = []
        for at, unit in enumerate(units):
            mine = (part for part in unit.parts if readers[keys[at, part]][0] == (at, part))
            if asked := tuple(part for part in mine if known.get(keys[at, part]) is None):
                jobs.append(Job(at, Request(together[at], asked)))
        for key, outcomes in known.items():
            if outcomes is not None:
                fill(key, outcomes)
        self._pool.run(jobs, told)

    def _key(self, at: int, part: int, together: Sequence[ResponseView]) -> str:
        """Names a question: by its content where that is journalled, otherwise by its place."""
        reward = self.rewards[part]
        journalled = reward.cache and self.journal is not None
        return content_key(reward, together) if journalled else f"unit {at} part {part}"
