"""Optimisers from libraries, over float32 masters where the weights are narrower. Stands beside `step`."""

from burnish.optim.masters import Masters
from burnish.optim.optimizer import Optimizer
from burnish.optim.rates import combined, layer_factors, matching, pattern_factors
from burnish.optim.settings import KINDS, OPTIONS, OptimizerName, OptimizerSettings, unused_options

__all__ = [
    "KINDS",
    "OPTIONS",
    "Masters",
    "Optimizer",
    "OptimizerName",
    "OptimizerSettings",
    "combined",
    "layer_factors",
    "matching",
    "pattern_factors",
    "unused_options",
]
