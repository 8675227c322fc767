"""How a batch of rollouts is made, as settings. Needs no torch; `rollouts` makes it, `replay` adds earlier ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplayRule:
    """How much is learned again. Example: ``ReplayRule(groups=256, fraction=0.25)``."""

    groups: int
    """Lessons that are kept, the newest ones."""
    fraction: float
    """Of a batch's lessons, how many are from earlier ones; above 0, below 1."""

    def count(self, wanted: int) -> int:
        """Of so many lessons, those from earlier batches if there are enough."""
        return min(wanted - 1, int(self.fraction * wanted + 0.5))


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How a batch of rollouts is made."""

    groups_per_step: int
    """Prompts of one optimiser step."""
    responses_per_prompt: int
    """To each prompt."""
    updates_per_batch: int = 1
    """Optimiser steps that learn from one batch of rollouts, each from its own groups."""
    max_resamples: int = 4
    """Prompts that are tried for each one that is wanted, before a batch goes on with fewer groups."""
    success_threshold: float = 0.5
    """Reward from which on a response counts as right in pass rates."""
    drops: bool = True
    """Whether groups in which no response is better than another are replaced; False: credit does not compare within
    groups, and all of them teach."""
    log_samples_every: int = 10
    """Steps between those whose responses are shown."""
    mask_truncated: bool = False
    """Whether responses that reached the limit of tokens are compared, and not learned from."""
    replay: ReplayRule | None = None
    """How much is learned from again; None: nothing."""
