"""What a recipe may name of watching a run: trackers, and alerts that end a stage."""

from __future__ import annotations

from typing import Literal

TrackerName = Literal["tensorboard", "wandb", "trackio"]
"""Where figures also go."""
AlarmName = Literal[
    "entropy_collapse", "zero_reward", "length_drift", "ungraded", "repetition", "kl_drift", "reward_hacking"
]
"""Alerts of learning by trying, of which a recipe may have some end the stage."""
