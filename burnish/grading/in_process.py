"""Rewards that grade in the process of the run, on its device. Used by `reward_runner`.

They are a part of Burnish, so an exception is an error of the run, not a failed answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import LoadedReward, Reward
from burnish.rewards.verdict import Outcome


@dataclass(eq=False)
class InProcessRewards:
    """Rewards of this process, each loaded when it first grades."""

    device: str | None
    """torch's name of it; None: CUDA if there is one, else the CPU."""
    resolve_model: Callable[[str], str] = str
    """See `RewardRunner.resolve_model`."""
    _loaded: dict[str, LoadedReward] = field(default_factory=dict)

    def grade(self, reward: Reward, groups: Sequence[Sequence[ResponseView]]) -> list[list[Outcome]]:
        """Outcomes of one reward for the answers to each prompt; None where it does not grade the row.

        Raises:
            UserError: the reward cannot be loaded.
        """
        graded = [[answer for answer in group if reward.applies(answer)] for group in groups]
        if not any(graded):
            return [[None for _ in group] for group in groups]
        if reward.key not in self._loaded:
            self._loaded[reward.key] = reward.load(self.device, self.resolve_model)
        outcomes = iter([outcome for group in self._loaded[reward.key](graded) for outcome in group])
        return [[next(outcomes) if reward.applies(answer) else None for answer in group] for group in groups]

    def close(self) -> None:
        """Frees what was loaded; it is loaded again when a reward grades again."""
        self._loaded.clear()
