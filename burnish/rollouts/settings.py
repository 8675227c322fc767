"""Settings of a batch of rollouts. Imports no torch; `rollouts` and `replay_buffer` apply them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

RewardNormalization = Literal["none", "scale", "standardize"]


@dataclass(frozen=True, slots=True)
class ReplayRule:
    """Rule of experience replay. Example: ``ReplayRule(groups=256, fraction=0.25)``."""

    groups: int
    """Size of the replay buffer, training items."""
    fraction: float
    """Share of a batch's training items that come from the buffer; above 0, below 1."""

    def count(self, size: int) -> int:
        """Number of items from the buffer, if it has enough, in a batch of this size."""
        return min(size - 1, int(self.fraction * size + 0.5))


@dataclass(frozen=True, slots=True)
class ShapingRule:
    """Reward shaping, in the order of the fields: r ← clip(normalize(r)) − penalties."""

    normalize: RewardNormalization = "none"
    """scale: r / σ. standardize: (r − μ) / σ, with mean and standard deviation of all rewards of the stage so far."""
    clip: float | None = None
    """Largest absolute value; None: no clipping."""
    missing_end_penalty: float = 0.0
    """Subtracted if the response was truncated."""
    length_penalty: float = 0.0
    """Subtracted for each token."""


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """Settings of a batch of rollouts."""

    groups_per_step: int
    """Number of prompts of one optimizer step."""
    responses_per_prompt: int
    """Number of responses to each prompt."""
    updates_per_batch: int = 1
    """Optimizer steps per batch of rollouts and epoch, each on its own groups (PPO's minibatches)."""
    epochs_per_batch: int = 1
    """Number of passes over a batch of rollouts; with several, groups are reshuffled for each."""
    max_resamples: int = 4
    """Maximum number of prompts to sample per group of the batch, before a batch is used with fewer groups."""
    success_threshold: float = 0.5
    """Smallest reward of a response that counts as right in pass rates."""
    drops: bool = True
    """Whether groups whose rewards are all equal are replaced; False: they have a gradient too, since credit does not
    compare within groups or the loss has other terms, or are trained on with advantages of 0."""
    log_samples_every: int = 10
    """Steps between those with samples."""
    mask_truncated: bool = False
    """Overlong filtering: whether truncated responses count in the baseline and are not trained."""
    replay: ReplayRule | None = None
    """Experience replay; None: none."""
    shaping: ShapingRule | None = None
    """Reward shaping; None: rewards are credited as they are."""
    learns_ungraded: bool = False
    """Whether responses without a reward are trained on: the credit rule has another source than rewards."""
    success_weights: bool = False
    """Whether the tokens of right responses get the weight 1 and all others 0, for a loss of their likelihood."""

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps of a whole batch of rollouts."""
        return self.updates_per_batch * self.epochs_per_batch

    def num_steps(self, prompts: int) -> int:
        """Optimizer steps of a stage that draws this many prompts: with several epochs per batch, whole batches."""
        if self.epochs_per_batch == 1:
            return math.ceil(prompts / self.groups_per_step)
        return math.ceil(prompts / (self.groups_per_step * self.updates_per_batch)) * self.steps_per_batch
