"""What comparisons with TRL need: models with weights that matter, a step of ours, TRL's trainers without files.

Used by tests/parity.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.losses.base import Loss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators
from burnish.train.step import Trainer, measure
from burnish.types import Group
from tests.conftest import FAMILIES, make_groups

REL = 1e-5
"""Agreement of losses."""


def random_model(seed: int) -> PreTrainedModel:
    """With weights that matter, so that rewards are of the order of 1."""
    torch.manual_seed(seed)
    model = FAMILIES["llama"]()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3)
    return model


def two_models() -> tuple[PreTrainedModel, PreTrainedModel]:
    """Policy and reference, near each other."""
    model = random_model(0)
    reference = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(1)
    for parameter in reference.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model, reference


def plain(shapes: list[tuple[int, list[int]]]) -> list[Group]:
    """Groups without weights of tokens, which TRL does not have."""
    return [
        replace(group, responses=tuple(replace(response, weights=None) for response in group.responses))
        for group in make_groups(shapes)
    ]


def packed(model: PreTrainedModel) -> Model:
    own = copy.deepcopy(model)
    install(own)
    return Model(own, tokenizer=None)


def step_of(policy: Model, groups: list[Group], loss: Loss) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What a step of ours reports, and its gradient; in small microbatches."""
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    loss = measure(policy, loss, (group for group in groups if group.scored_only), 30)
    trained = [group for group in groups if not group.scored_only]
    sums = trainer.accumulate(policy.pack(trained, 30), loss, count_denominators(trained))
    gradients = {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None}
    return {name: float(value) for name, value in sums.items()}, gradients


def without_init(kind: type, model: PreTrainedModel, **facts: object) -> object:
    """A trainer that can do nothing but compute its loss."""
    trainer = kind.__new__(kind)
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
    known = {"model": model, "accelerator": accelerator, "aux_loss_enabled": False, "label_smoothing": 0.0}
    known |= {"_metrics": {"train": defaultdict(list)}, "_total_train_tokens": 0, "_tp_size": 1}
    for name, value in {**known, **facts}.items():
        setattr(trainer, name, value)
    return trainer


def assert_same_gradient(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(mine) == set(theirs)
    size = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    error = torch.stack([(mine[name] - gradient).norm() for name, gradient in theirs.items()]).norm()
    assert float(error / size) < 1e-4
