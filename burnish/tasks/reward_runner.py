"""Grades groups of answers in worker processes. Called by the sources of rollouts.

Rewards with a condition run once the rewards that they depend on are known; those with ``cache`` only where the cache
has no outcome. The result does not depend on the number of workers or on their speed.

    with RewardRunner(read_rewards("math")) as grade:
        [[verdict]] = grade([[ResponseView("2 + 2?", "It is 4.", reference="4")]])
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from burnish.tasks.pool import Job, Pool
from burnish.tasks.protocol import Request, Work
from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward, combine, condition_met, skipped_outcome
from burnish.tasks.verdict import Outcome, Verdict
from burnish.tasks.verdict_cache import VerdictCache, content_key

Groups = Sequence[Sequence[ResponseView]]
"""Answers to each prompt."""

BUILTIN_MEMORY = 4 << 30
"""Memory limit of a worker, bytes, if all rewards are `bounded`; a user's code or a model may need more."""
MAX_WORKERS = 8


@dataclass(frozen=True, slots=True)
class _Unit:
    """Answers that a reward grades together."""

    answers: tuple[int, ...]
    """Their indices among all answers."""
    parts: tuple[int, ...]
    """Indices of the rewards."""


@dataclass(eq=False)
class RewardRunner:
    """Runs rewards in worker processes. A context manager: leaving it ends the processes."""

    rewards: tuple[Reward, ...]
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, MAX_WORKERS))
    """Number of processes, which are started when there is work."""
    journal: VerdictCache | None = None
    """Cache of rewards with ``cache: true``; None: no cache. Closed by its owner."""
    _pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        assert self.workers >= 1, f"answers are graded by at least one process, got {self.workers}"
        bounded = all(reward.bounded for reward in self.rewards)
        self._pool = Pool(Work(self.rewards, BUILTIN_MEMORY if bounded else None), self.workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; the next call starts them again."""
        self._pool.close()

    def __call__(self, groups: Groups) -> list[list[Verdict]]:
        """Grades the answers to some prompts.

        Returns:
            A verdict for each answer, in the same order.

        Raises:
            RecipeError: a reward cannot be loaded, or breaks its contract (as many verdicts as answers).
        """
        answers = [answer for group in groups for answer in group]
        outcomes: list[dict[int, Outcome]] = [{} for _ in answers]
        for depth in range(1 + max(map(self._depth, range(len(self.rewards))), default=0)):
            parts = tuple(part for part in range(len(self.rewards)) if self._depth(part) == depth)
            self._run(list(self._units(groups, parts, outcomes)), answers, outcomes)
        verdicts = (combine(self.rewards, self._named(parts)) for parts in outcomes)
        return [[next(verdicts) for _ in group] for group in groups]

    def _depth(self, part: int) -> int:
        """Number of conditions in the chain before a reward."""
        when = self.rewards[part].when
        return 0 if when is None else 1 + self._depth([reward.key for reward in self.rewards].index(when.metric))

    def _named(self, parts: dict[int, Outcome]) -> dict[str, Outcome]:
        """Outcomes by the name of the reward, in the recipe's order."""
        return {reward.key: parts[part] for part, reward in enumerate(self.rewards) if part in parts}

    def _units(self, groups: Groups, parts: tuple[int, ...], outcomes: list[dict[int, Outcome]]) -> Iterator[_Unit]:
        """Work at this depth. Outcomes of rewards whose condition is not met are filled in at once."""
        start = 0
        for group in groups:
            members = range(start, start + len(group))
            start += len(group)
            due = {part: tuple(index for index in members if self._is_due(part, outcomes[index])) for part in parts}
            yield from (_Unit(due[part], (part,)) for part in parts if self.rewards[part].by_group and due[part])
            for index in members:
                single = tuple(part for part in parts if not self.rewards[part].by_group and index in due[part])
                if single:
                    yield _Unit((index,), single)

    def _is_due(self, part: int, known: dict[int, Outcome]) -> bool:
        reward = self.rewards[part]
        if reward.when is None or condition_met(reward, self._named(known)):
            return True
        known[part] = skipped_outcome(reward, self._named(known))
        return False

    def _run(self, units: Sequence[_Unit], answers: Sequence[ResponseView], outcomes: list[dict[int, Outcome]]) -> None:
        """Fills in the outcomes of the units. With a cache, the same content is graded once."""
        views = [tuple(answers[index] for index in unit.answers) for unit in units]
        keys = {(at, part): self._key(at, part, views[at]) for at, unit in enumerate(units) for part in unit.parts}
        users: dict[str, list[tuple[int, int]]] = {}
        for unit_part, key in keys.items():
            users.setdefault(key, []).append(unit_part)

        def fill(key: str, results: Sequence[Outcome]) -> None:
            for at, part in users[key]:
                for index, outcome in zip(units[at].answers, results, strict=True):
                    outcomes[index][part] = outcome

        def on_outcomes(job: Job, part: int, results: list[Outcome]) -> None:
            key = keys[job.index, part]
            if self.journal is not None and self.rewards[part].cache:
                self.journal.write(key, self.rewards[part].key, results)
            fill(key, results)

        cached = {} if self.journal is None else {key: self.journal.read(key) for key in users}
        jobs = []
        for at, unit in enumerate(units):
            first = (part for part in unit.parts if users[keys[at, part]][0] == (at, part))
            if missing := tuple(part for part in first if cached.get(keys[at, part]) is None):
                jobs.append(Job(at, Request(views[at], missing)))
        for key, results in cached.items():
            if results is not None:
                fill(key, results)
        self._pool.run(jobs, on_outcomes)

    def _key(self, at: int, part: int, views: Sequence[ResponseView]) -> str:
        """Key of one part of a unit: its content where that is cached, otherwise its position."""
        reward = self.rewards[part]
        is_cached = reward.cache and self.journal is not None
        return content_key(reward, views) if is_cached else f"unit {at} part {part}"
