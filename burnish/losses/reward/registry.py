"""Losses of reward models by name."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.losses.reward.ranked import RankedValues
from burnish.losses.reward.regression import Regression
from burnish.losses.reward.steps import StepCrossEntropy, StepRegression

RewardLoss = BradleyTerry | RankedValues | Regression | StepCrossEntropy | StepRegression

REWARD_LOSSES: Mapping[str, type[RewardLoss]] = {
    "bradley_terry": BradleyTerry,
    "plackett_luce": RankedValues,
    "regression": Regression,
    "step_cross_entropy": StepCrossEntropy,
    "step_regression": StepRegression,
}
"""Name → loss; its fields are the options in `settings.OPTIONS`."""
