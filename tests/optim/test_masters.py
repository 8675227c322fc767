"""Updates of narrow weights: float32 twins, or rounding by chance."""

import pytest
import torch
from torch import nn

import burnish.optim.masters
from burnish.errors import RecipeError
from burnish.optim.masters import Masters
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings


def narrow_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 80), nn.Tanh(), nn.Linear(80, 64)).bfloat16()


def trained(steps: int, **settings: object) -> nn.Sequential:
    model = narrow_model()
    chosen = OptimizerSettings(learning_rate=1e-3, stochastic_rounding=True, **settings)
    optimizer = Optimizer(model.named_parameters(), chosen)
    for step in range(steps):
        inputs = torch.randn(4, 64, generator=torch.Generator().manual_seed(step)).bfloat16()
        model(inputs).square().mean().backward()
        optimizer.step(1.0, max_grad_norm=1.0)
    return model


def test_updates_below_the_last_bit_are_kept_on_average():
    """A hundred updates of 1e-4 on weights of 1, whose neighbours in bfloat16 are 1/256 and 1/128 away."""
    parameter = nn.Parameter(torch.ones(10_000, dtype=torch.bfloat16))
    settings = OptimizerSettings("sgd", learning_rate=1e-4, momentum=0.0, stochastic_rounding=True)
    optimizer = Optimizer([("p", parameter)], settings)
    for _ in range(100):
        parameter.sum().backward()
        optimizer.step(1.0, max_grad_norm=None)
    assert float(parameter.detach().double().mean()) == pytest.approx(0.99, abs=1e-4)


def test_nothing_wide_is_left_between_steps():
    """Twins of a moment have no memory of their own."""
    model = narrow_model()
    optimizer = Optimizer(model.named_parameters(), OptimizerSettings(stochastic_rounding=True))
    model(torch.ones(1, 64).bfloat16()).sum().backward()
    optimizer.step(1.0, max_grad_norm=None)
    for master in optimizer.masters.masters:
        assert master.untyped_storage().nbytes() == 4
        assert master.grad is None


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "muon", "adafactor", "lion"])
def test_how_many_are_widened_at_once_does_not_matter(monkeypatch, name):
    together = trained(3, kind=name)
    monkeypatch.setattr(burnish.optim.masters, "CHUNK_BYTES", 1)
    apart = trained(3, kind=name)
    for one, other in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.equal(one, other)


def test_chance_has_a_seed():
    first, same, other = trained(2, seed=1), trained(2, seed=1), trained(2, seed=2)
    weights = [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_gradients_are_added_in_float32():
    """256 gradients of 1 and one of 0.5: bfloat16 has no 256.5."""
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    masters = Masters([parameter], torch.Generator())
    for gradient in [1.0] * 256 + [0.5]:
        (gradient * parameter).sum().backward()
    assert float(masters.masters[0].grad) == 256.5


def test_wide_weights_of_a_narrow_model_are_not_rounded():
    wide, narrow = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    settings = OptimizerSettings("sgd", learning_rate=1e-4, momentum=0.0, stochastic_rounding=True)
    optimizer = Optimizer([("wide", wide), ("narrow", narrow)], settings)
    (wide.sum() + narrow.float().sum()).backward()
    optimizer.step(1.0, max_grad_norm=None)
    assert torch.equal(wide.detach(), torch.full((3,), 1 - 1e-4))


def test_without_narrow_weights_it_is_refused():
    with pytest.raises(RecipeError, match="stochastic_rounding"):
        Optimizer([("p", nn.Parameter(torch.ones(2)))], OptimizerSettings(stochastic_rounding=True))
