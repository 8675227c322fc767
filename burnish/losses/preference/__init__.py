"""Learning from better and worse: the DPO family, KTO, ORPO, SimPO, CPO, AlphaPO, TPO, rankings, and sums of them."""

from burnish.losses.preference.best import Best
from burnish.losses.preference.kto import Kto
from burnish.losses.preference.listwise import Listwise
from burnish.losses.preference.options import Data
from burnish.losses.preference.pairs import Pairs
from burnish.losses.preference.registry import PREFERENCE_LOSSES, Preference, key_of, preference_loss, weighted_losses
from burnish.losses.preference.transport import AotPaired
from burnish.losses.preference.weighted_sum import Weighted, WeightedSum

__all__ = [
    "PREFERENCE_LOSSES",
    "AotPaired",
    "Best",
    "Data",
    "Kto",
    "Listwise",
    "Pairs",
    "Preference",
    "Weighted",
    "WeightedSum",
    "key_of",
    "preference_loss",
    "weighted_losses",
]
