"""Rollouts of several processes: each answers and grades its share of the prompts, and gets the groups of all.

Random numbers belong to prompts (`SampleRequest.key`), so the responses do not depend on who writes them, up to
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.data.prompts import TokenizedPrompt
from burnish.parallel.world import World
from burnish.rollouts.worker import GradedGroup, Rollouts, RolloutWorker
from burnish.watch.parts import OnPart, no_report


@dataclass(frozen=True, eq=False, slots=True)
class DealtWorker:
    """Rollout worker whose prompts are dealt to the processes of a world by their lengths, each prompt to one."""

    worker: RolloutWorker
    world: World

    @property
    def deterministic(self) -> bool:
        return self.worker.deterministic

    def publish(self, version: int) -> None:
        self.worker.publish(version)

    def __call__(
        self,
        prompts: Sequence[TokenizedPrompt],
        n: int,
        *,
        rng_keys: Sequence[int],
        step: int = 0,
        on_part: OnPart = no_report,
    ) -> Rollouts:
        hands = deal([len(prompt.tokens) for prompt in prompts], self.world.shares)
        own = hands[self.world.own_share]
        self.world.at("sampling and grading")
        keys = [rng_keys[index] for index in own]
        # Also without a prompt: processes that have the weights together gather them for one another.
        mine = self.worker([prompts[index] for index in own], n, rng_keys=keys, step=step, on_part=on_part)
        found = self.world.gather_shares(mine)
        groups: dict[int, GradedGroup] = {}
        for hand, rollouts in zip(hands, found, strict=True):
            groups |= dict(zip(hand, rollouts.groups, strict=True))
        return Rollouts(
            [groups[index] for index in range(len(prompts))],
            max(rollouts.seconds_sampling for rollouts in found),
            max(rollouts.seconds_grading for rollouts in found),
        )


def dealt(worker: RolloutWorker, world: World) -> RolloutWorker:
    """The worker, shared by the processes of the world; of one process, the worker itself."""
    return worker if world.shares == 1 else DealtWorker(worker, world)


def deal(costs: Sequence[float], hands: int) -> list[list[int]]:
    """Deals items to so many hands: the costliest first, each to the hand with the lowest sum, of equal ones to the
    one with fewest items. Items of a hand keep their order.

    Example: ``deal([1, 5, 2, 4], 2) == [[0, 1], [2, 3]]``.
    """
    dealt: list[list[int]] = [[] for _ in range(hands)]
    sums = [0.0] * hands
    for item in sorted(range(len(costs)), key=lambda item: (-costs[item], item)):
        hand = min(range(hands), key=lambda hand: (sums[hand], len(dealt[hand]), hand))
        dealt[hand].append(item)
        sums[hand] += costs[item]
    return [sorted(hand) for hand in dealt]
