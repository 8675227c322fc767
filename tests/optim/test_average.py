"""The weights that are used: averages by hand, and those of training back bit for bit."""

import pytest
import torch
from torch import nn

from burnish.optim.average import Average
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings


def test_by_hand():
    weight = torch.zeros(1)
    average = Average([weight], 0.5)
    for updates, number in enumerate([1.0, 2.0], start=1):
        weight.fill_(number)
        average.update([weight], updates)
    first = 0.9 * 1.0  # the first keeps 1 / (1 + 9) of what was
    assert float(average.values[0]) == pytest.approx(first + (1 - 2 / 11) * (2 - first))


def test_later_it_keeps_its_decay():
    average = Average([torch.zeros(1)], 0.9)
    average.update([torch.ones(1)], 1000)
    assert float(average.values[0]) == pytest.approx(0.1)


def test_narrow_weights_are_averaged_in_float32():
    average = Average([torch.zeros(1, dtype=torch.bfloat16)], 0.999)
    average.update([torch.ones(1, dtype=torch.bfloat16)], 10_000)
    assert float(average.values[0]) == pytest.approx(0.001)


def stepped(dtype: torch.dtype, **settings: object) -> tuple[nn.Linear, Optimizer, list[torch.Tensor]]:
    """A model after four steps, and its weights after each of them (and before, in the first place)."""
    torch.manual_seed(0)
    model = nn.Linear(5, 4).to(dtype)
    optimizer = Optimizer(model.named_parameters(), OptimizerSettings(learning_rate=0.1, **settings))
    seen = [optimizer.masters.weights[0].detach().clone()]
    for _ in range(4):
        model(torch.ones(2, 5, dtype=dtype)).square().sum().backward()
        optimizer.step(1.0, max_grad_norm=None)
        seen.append(optimizer.masters.weights[0].detach().clone())
    return model, optimizer, seen


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (torch.float32, {"ema_decay": 0.7}),
        (torch.bfloat16, {"ema_decay": 0.7}),
        (torch.bfloat16, {"ema_decay": 0.7, "stochastic_rounding": True}),
        (torch.float32, {"kind": "schedule_free"}),
        (torch.bfloat16, {"kind": "schedule_free"}),
    ],
    ids=["ema", "ema of twins", "ema, rounded by chance", "schedule-free", "schedule-free twins"],
)
def test_what_is_used_differs_and_training_goes_on_from_its_own_bits(dtype, settings):
    model, optimizer, _ = stepped(dtype, **settings)
    weights = [weight.detach().clone() for weight in optimizer.masters.weights]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with optimizer.in_use():
        assert not torch.equal(model.weight, before[0])
    for kept, weight in zip(weights, optimizer.masters.weights, strict=True):
        assert torch.equal(kept, weight)
    for kept, parameter in zip(before, model.parameters(), strict=True):
        assert torch.equal(kept, parameter)
    model(torch.ones(2, 5, dtype=dtype)).square().sum().backward()
    optimizer.step(1.0, max_grad_norm=None)  # schedule-free takes no step from the average


def test_the_average_is_what_is_used():
    model, optimizer, seen = stepped(torch.float32, ema_decay=0.3)
    expected = seen[0].clone()
    for updates, weight in enumerate(seen[1:], start=1):
        expected.lerp_(weight, 1 - min(0.3, updates / (updates + 9)))
    with optimizer.in_use():
        assert torch.allclose(model.weight, expected, atol=1e-7)


def test_schedule_free_uses_the_mean_of_its_inner_points():
    """x_t = mean of z_1 … z_t with a constant rate (arXiv 2405.15682, equation 5)."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = Optimizer(model.named_parameters(), OptimizerSettings("schedule_free", learning_rate=0.1))
    [library] = optimizer.libraries
    inner = []
    for _ in range(4):
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step(1.0, max_grad_norm=None)
        inner.append(library.state[model.weight]["z"].clone())
    with optimizer.in_use():
        assert torch.allclose(model.weight, torch.stack(inner).mean(0), atol=1e-6)


def test_without_average_nothing_is_touched():
    model, optimizer, seen = stepped(torch.float32)
    with optimizer.in_use():
        assert torch.equal(model.weight, seen[-1])
