"""Types of recipe values: names of trackers, and of alerts that end a stage."""

from __future__ import annotations

from typing import Literal

TrackerName = Literal["tensorboard", "wandb", "trackio"]
"""Names of trackers."""
AlarmName = Literal[
    "equal_rewards",
    "entropy_collapse",
    "zero_reward",
    "length_drift",
    "ungraded",
    "repetition",
    "kl_drift",
    "reward_hacking",
    "critic_error",
    "teacher_gap",
]
"""Alerts of stages with rollouts that may end a stage (`stop_on_alerts`)."""
