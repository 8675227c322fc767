"""Scores and their gradients on CUDA are those of a CPU, on every route to the gradient; and the invariance law."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from burnish.losses.base import Loss
from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.preference.build import preference_loss
from burnish.model.attention import install
from burnish.model.head import Head
from burnish.model.policy import Model
from burnish.model.scoring import score
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators, pack
from burnish.train.step import Trainer
from burnish.types import TEACHER_SCORES, VALUE_SCORES, Group, Microbatch, Score
from tests.conftest import VOCABULARY, make_groups
from tests.families import in_float64
from tests.gpu.conftest import made
from tests.numerics.test_invariance import PACKINGS, SHAPES, gradient
from tests.preferences import compared

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

KINDS = [kind for kind in Score if kind not in VALUE_SCORES | TEACHER_SCORES]
BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.02}
"""Largest difference relative to the largest entry; bfloat16: gradients of logits are rounded once."""
WIDTH = 48


def inputs(microbatch: Microbatch, dtype: torch.dtype) -> tuple[Tensor, Head]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(microbatch.tokens), WIDTH, generator=generator).to(dtype)
    weight = 0.3 * torch.randn(VOCABULARY, WIDTH, generator=generator)
    return hidden, Head(weight.to(dtype), bias=None, softcap=20.0)


def scored(microbatch: Microbatch, dtype: torch.dtype, device: torch.device, route: str) -> list[Tensor]:
    """All scores, and the gradients of hidden states and head, on the host in float64."""
    hidden, head = inputs(microbatch, dtype)
    hidden = hidden.to(device).requires_grad_()
    weight = head.weight.to(device).requires_grad_(route != "frozen head")
    there = microbatch.to(device)
    known = None
    if route == "known upstream":
        known = {
            kind: torch.linspace(-1, 1, len(there.predictor_positions), device=device, dtype=torch.float64)
            for kind in KINDS
        }
    found = score(hidden, replace(head, weight=weight), there, KINDS, coefficients=known, chunk_bytes=2000)
    slopes = torch.linspace(-1, 1, len(there.predictor_positions), device=device)
    torch.stack([(found.of(kind) * slopes).sum() for kind in KINDS]).sum().backward()
    values = [found.of(kind).detach() for kind in KINDS]
    grads = [tensor.grad for tensor in (hidden, weight) if tensor.grad is not None]
    return [tensor.cpu().double() for tensor in (*values, *grads)]


@pytest.mark.parametrize("route", ["frozen head", "known upstream", "recomputed"])
@pytest.mark.parametrize("dtype", BOUNDS, ids=lambda dtype: str(dtype)[6:])
def test_scores_are_those_of_a_cpu(device, figures, dtype, route):
    [microbatch] = pack(make_groups([(9, [5]), (4, [7, 3])], holes=True), 100)
    here, there = (scored(microbatch, dtype, where, route) for where in (torch.device("cpu"), device))
    worst = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(here, there, strict=True))
    figures[f"scoring/{dtype}/{route}"] = worst
    assert worst < BOUNDS[dtype]


def relative(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference over the largest entry of its parameter."""
    sizes = {name: float(value.abs().max()) or 1.0 for name, value in one.items()}
    return max(float((other[name] - value).abs().max()) / sizes[name] for name, value in one.items())


def worst_of_packings(model: PreTrainedModel) -> float:
    """The largest relative difference of the gradients of two packings of the same groups."""
    policy = Model(model, tokenizer=None, chunk_bytes=4096)
    groups = make_groups(SHAPES, holes=True)
    found = {packing: gradient(policy, groups, packing, CrossEntropy())[0] for packing in PACKINGS}
    return max(relative(found[one], found[other]) for one, other in combinations(PACKINGS, 2))


def exact(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> PreTrainedModel:
    """Float64 in every operation, also where transformers' code rounds to float32: by segments."""
    model = in_float64("llama", monkeypatch).to(device)
    install(model)
    return model


def test_every_packing_gives_the_same_gradient(device, figures, monkeypatch):
    """The law, as tests/numerics has it."""
    figures["invariance/torch.float64"] = worst = worst_of_packings(exact(device, monkeypatch))
    assert worst < 1e-11


def test_every_packing_gives_the_same_gradient_but_for_rounding(device, figures):
    """By FlexAttention, in float32: the bound is a hundred times what a CPU's order of additions makes."""
    figures["invariance/torch.float32"] = worst = worst_of_packings(made("llama", device, torch.float32))
    assert worst < 1e-4


def step_gradient(model: PreTrainedModel, groups: list[Group], loss: Loss, budget: int) -> dict[str, Tensor]:
    policy = Model(model, tokenizer=None)
    policy.model.zero_grad()
    trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings()))
    trainer.accumulate(policy.pack(groups, budget), loss, count_denominators(groups))
    return {name: p.grad.cpu() for name, p in policy.trained_parameters()}


@pytest.mark.parametrize("name", ["dpo", "beta_dpo", "aot", "simpo", "plackett_luce", "kto"])
def test_a_loss_has_the_gradient_of_a_cpu(device, monkeypatch, name):
    """Whole steps, groups cut into microbatches and not, in float64."""
    found = preference_loss(name)
    groups, model = compared(found.data), exact(torch.device("cpu"), monkeypatch)
    moved = copy.deepcopy(model).to(device)
    for budget in (30, 1000):
        here, there = (step_gradient(each, groups, found.loss, budget) for each in (model, moved))
        assert relative(here, there) < 1e-10
