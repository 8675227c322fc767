"""Grades groups of answers in worker processes, or in this one. Called by the sources of rollouts.

Rewards with a condition run once the rewards that they depend on are known; those with ``cache`` only where the cache
has no outcome. The result does not depend on the number of workers or on their speed. Rewards that are `in_process`
grade here, all answers of a call at once.

    with RewardRunner(read_rewards("math")) as grade:
        [[verdict]] = grade([[ResponseView("2 + 2?", "It is 4.", reference="4")]])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import TracebackType
from typing import Self

from burnish.grading.in_process import InProcessRewards
from burnish.grading.pool import Job, Pool
from burnish.grading.protocol import Request, Work
from burnish.grading.verdict_cache import VerdictCache, content_key
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward, combine, condition_met, skipped_outcome
from burnish.rewards.verdict import Outcome, Verdict

Groups = Sequence[Sequence[ResponseView]]
"""Answers to each prompt."""

_Views = tuple[ResponseView, ...]
_Record = Callable[[int, int, Sequence[Outcome]], None]
"""Called with (index of the unit, part, outcomes)."""

BUILTIN_MEMORY = 4 << 30
"""Memory limit of a worker, bytes, if all its rewards are `bounded`; a user's code may need more."""
MAX_WORKERS = 8


@dataclass(frozen=True, slots=True)
class _Unit:
    """Answers that a reward grades together."""

    group: int
    """Index of their prompt."""
    answers: tuple[int, ...]
    """Their indices among all answers."""
    parts: tuple[int, ...]
    """Indices of the rewards."""


@dataclass(eq=False)
class RewardRunner:
    """Runs rewards in worker processes and in this one. A context manager: leaving it ends the processes, and frees
    the models of rewards."""

    rewards: tuple[Reward, ...]
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, MAX_WORKERS))
    """Number of processes, which are started when there is work."""
    journal: VerdictCache | None = None
    """Cache of rewards with ``cache: true``; None: no cache. Closed by its owner."""
    device: str | None = None
    """torch's name of the device of rewards in this process; None: CUDA if there is one, else the CPU."""
    resolve_model: Callable[[str], str] = str
    """Maps the name of a model in a recipe to a hub name or a folder, such as a run to its model; `str`: names stay as
    they are."""
    _pool: Pool = field(init=False)
    _here: InProcessRewards = field(init=False)

    def __post_init__(self) -> None:
        assert self.workers >= 1, f"answers are graded by at least one process, got {self.workers}"
        rewards = tuple(reward for reward in self.rewards if not reward.in_process)
        bounded = all(reward.bounded for reward in rewards)
        self._pool = Pool(Work(rewards, BUILTIN_MEMORY if bounded else None), self.workers)
        self._here = InProcessRewards(self.device, self.resolve_model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes and frees the models; the next call starts and loads them again."""
        self._pool.close()
        self._here.close()

    def __call__(self, groups: Groups) -> list[list[Verdict]]:
        """Grades the answers to some prompts.

        Returns:
            A verdict for each answer, in the same order.

        Raises:
            UserError: a reward cannot be loaded, or breaks its contract (as many verdicts as answers).
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
        """Work for these rewards, whose conditions are known; fills in outcomes where a condition is not met."""
        start = 0
        for number, group in enumerate(groups):
            members = range(start, start + len(group))
            start += len(group)
            due = {part: tuple(index for index in members if self._is_due(part, outcomes[index])) for part in parts}
            together = (part for part in parts if self.rewards[part].by_group and due[part])
            yield from (_Unit(number, due[part], (part,)) for part in together)
            for index in members:
                single = tuple(part for part in parts if not self.rewards[part].by_group and index in due[part])
                if single:
                    yield _Unit(number, (index,), single)

    def _is_due(self, part: int, known: dict[int, Outcome]) -> bool:
        reward = self.rewards[part]
        if reward.when is None or condition_met(reward, self._named(known)):
            return True
        known[part] = skipped_outcome(reward, self._named(known))
        return False

    def _run(self, units: Sequence[_Unit], answers: Sequence[ResponseView], outcomes: list[dict[int, Outcome]]) -> None:
        """Fills in the outcomes of all units, cached or graded now. With a cache, equal content is graded once."""
        views = [tuple(answers[index] for index in unit.answers) for unit in units]
        keys = {(at, part): self._key(at, part, views[at]) for at, unit in enumerate(units) for part in unit.parts}
        users: dict[str, list[tuple[int, int]]] = {}
        for unit_part, key in keys.items():
            users.setdefault(key, []).append(unit_part)

        def fill(key: str, results: Sequence[Outcome]) -> None:
            for at, part in users[key]:
                for index, outcome in zip(units[at].answers, results, strict=True):
                    outcomes[index][part] = outcome

        def record(at: int, part: int, results: Sequence[Outcome]) -> None:
            key = keys[at, part]
            if self.journal is not None and self.rewards[part].cache:
                self.journal.write(key, self.rewards[part].key, results)
            fill(key, results)

        missing = set()
        for key, (first, *_) in users.items():
            cached = None if self.journal is None else self.journal.read(key)
            if cached is None:
                missing.add(first)
            else:
                fill(key, cached)
        self._run_in_workers(units, views, missing, record)
        self._run_here(units, views, missing, record)

    def _run_in_workers(
        self, units: Sequence[_Unit], views: Sequence[_Views], missing: set[tuple[int, int]], record: _Record
    ) -> None:
        """Grades the missing (unit, reward) pairs of rewards that run in worker processes."""
        parts = [part for part, reward in enumerate(self.rewards) if not reward.in_process]
        jobs = []
        for at in range(len(units)):
            if due := tuple(index for index, part in enumerate(parts) if (at, part) in missing):
                jobs.append(Job(at, Request(views[at], due)))
        self._pool.run(jobs, lambda job, index, results: record(job.index, parts[index], results))

    def _run_here(
        self, units: Sequence[_Unit], views: Sequence[_Views], missing: set[tuple[int, int]], record: _Record
    ) -> None:
        """Grades the missing pairs of rewards that run in this process. If any answer of a reward is missing, all are
        graded again, since the last bits of a score may depend on the answers that it is packed with."""
        for part in sorted({part for _, part in missing if self.rewards[part].in_process}):
            due = [at for at, unit in enumerate(units) if part in unit.parts]
            groups = [list(members) for _, members in groupby(due, key=lambda at: units[at].group)]
            graded = self._here.grade(self.rewards[part], [[views[at][0] for at in group] for group in groups])
            results = [outcome for group in graded for outcome in group]
            for at, outcome in zip(due, results, strict=True):
                if (at, part) in missing:
                    record(at, part, [outcome])

    def _key(self, at: int, part: int, views: Sequence[ResponseView]) -> str:
        """Key of one part of a unit: its content where that is cached, otherwise its position."""
        reward = self.rewards[part]
        is_cached = reward.cache and self.journal is not None
        return content_key(reward, views) if is_cached else f"unit {at} part {part}"
