"""Components of a training loop of one's own; docs/python.md has loops of about twenty lines.

`Group` and `Response` are the data; `load_policy` loads a model; `Trainer.step` is one optimizer step on groups with
any `Loss`; `LocalSampler` samples responses; `credit` turns rewards into advantages; `export` writes the model.
"""

from collections.abc import Mapping
from typing import Any

from burnish.config.live_code import named
from burnish.credit.credit import credit
from burnish.credit.settings import CreditSettings
from burnish.export.export import export
from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.policy.gradient import PolicyGradient
from burnish.model.load import load_policy
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.sampling.base import SampleRequest
from burnish.sampling.local import LocalSampler
from burnish.sampling.params import SamplingParams
from burnish.stages.user_loss import user_loss
from burnish.train.step import Trainer
from burnish.types import Denominator, Group, LossOutput, LossTerm, Microbatch, Response, Score, TokenScores

__all__ = [
    "CreditSettings",
    "CrossEntropy",
    "Denominator",
    "Group",
    "LocalSampler",
    "Loss",
    "LossOutput",
    "LossTerm",
    "Microbatch",
    "Model",
    "Optimizer",
    "OptimizerSettings",
    "PolicyGradient",
    "Response",
    "SampleRequest",
    "SamplingParams",
    "Score",
    "TokenScores",
    "Trainer",
    "credit",
    "export",
    "load_policy",
    "loss_of",
]


def loss_of(function: Any, options: Mapping[str, object] | None = None) -> Loss:
    """A function or class of one's own as a loss for `Trainer.step`.

    Args:
        function: takes `TokenScores` and a `Microbatch`, and returns a `LossOutput`; its attribute ``needs`` lists the
            scores that it reads (default: log-probabilities). Or a class of such objects.
        options: arguments of a class.

    Raises:
        RecipeError: it is no loss, or the options do not fit.
    """
    return user_loss(named(function), options or {})
