"""What a reward model learns by: Bradley–Terry for pairs, Plackett–Luce for rankings, squares for scores."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.losses.reward.ranked import RankedValues
from burnish.losses.reward.regression import Regression

REWARD_LOSSES: Mapping[str, type[BradleyTerry | RankedValues | Regression]] = {
    "bradley_terry": BradleyTerry,
    "plackett_luce": RankedValues,
    "regression": Regression,
}
"""Name → loss; its fields are its options."""

__all__ = ["REWARD_LOSSES", "BradleyTerry", "RankedValues", "Regression"]
