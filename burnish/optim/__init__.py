"""Optimisers from libraries, over float32 masters where the weights are narrower. Stands beside `step`."""

from burnish.optim.masters import Masters
from burnish.optim.optimizer import Optimizer, OptimizerName, OptimizerSettings
from burnish.optim.rates import combined, layer_factors, pattern_factors

__all__ = [
    "Masters",
    "Optimizer",
    "OptimizerName",
    "OptimizerSettings",
    "combined",
    "layer_factors",
    "pattern_factors",
]
