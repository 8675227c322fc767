"""Components of a training loop of one's own; docs/python.md has loops of about twenty lines.

`Group` and `Response` are the data; `load_policy` loads a model; `Trainer.step` is one optimizer step on groups with
any `Loss`; `LocalSampler` samples responses; `credit` turns rewards into advantages; `export` writes the model.
"""

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
]
