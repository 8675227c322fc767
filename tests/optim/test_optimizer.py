"""Optimizers: the libraries' own results, float32 masters, and the parameters that each one gets."""

import sys

import pytest
import torch
from torch import nn

from burnish.errors import RecipeError
from burnish.optim.masters import Masters
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import KINDS, OptimizerSettings

ON_CPU = [name for name in KINDS if not name.endswith("_paged")]


def make_model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 8), nn.Linear(8, 16)).to(dtype)


def backward(model: nn.Module, seed: int) -> None:
    tokens = torch.randint(16, (12,), generator=torch.Generator().manual_seed(seed))
    nn.functional.cross_entropy(model(tokens).float(), tokens.flip(0)).backward()


def test_adamw_is_torchs_with_decay_on_matrices_only():
    mine, theirs = make_model(), make_model()
    optimizer = Optimizer(mine.named_parameters(), OptimizerSettings(learning_rate=0.01, weight_decay=0.1))
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    vectors = [p for p in theirs.parameters() if p.ndim == 1]
    plain = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=0.01, fused=True
    )
    for step in range(5):
        backward(mine, step)
        backward(theirs, step)
        optimizer.step(1.0, max_grad_norm=None)
        plain.step()
        plain.zero_grad()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_clipping_bounds_the_norm_and_reports_what_it_was():
    model = make_model()
    settings = OptimizerSettings(learning_rate=1.0)
    optimizer = Optimizer(model.named_parameters(), settings)
    backward(model, 0)
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    seen = []
    optimizer.libraries[0].register_step_pre_hook(
        lambda library, *_: seen.append(
            torch.cat([p.grad.flatten() for g in library.param_groups for p in g["params"]]).norm()
        )
    )
    reported = optimizer.step(1.0, max_grad_norm=float(norm) / 4)
    assert float(reported) == pytest.approx(float(norm))
    assert float(seen[0]) == pytest.approx(float(norm) / 4, rel=1e-5)


def test_masters_keep_updates_that_bfloat16_would_lose():
    """An update of 1e-4 on a weight of 1 is below bfloat16's step of 1/128; a hundred of them are not."""
    parameter = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    masters = Masters([parameter])
    for _ in range(100):
        with torch.no_grad():
            masters.masters[0].sub_(1e-4)
        masters.write_back()
    assert torch.allclose(masters.masters[0], torch.full((4,), 0.99))
    assert torch.equal(parameter, masters.masters[0].bfloat16())
    assert float(parameter.detach()[0]) < 1


def test_masters_accumulate_gradients_in_float32():
    """256 gradients of 1 and one of 0.5: bfloat16 has no 256.5."""
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    masters = Masters([parameter])
    for gradient in [1.0] * 256 + [0.5]:
        (gradient * parameter).sum().backward()
    assert parameter.grad is None
    assert float(masters.masters[0].grad) == 256.5


def test_wide_parameters_are_their_own_masters():
    model = make_model()
    assert all(a is b for a, b in zip(Masters(model.parameters()).masters, model.parameters(), strict=True))


def test_muon_takes_the_inner_matrices():
    model = make_model()
    optimizer = Optimizer(
        model.named_parameters(), OptimizerSettings(kind="muon"), embedding_like=[model[0].weight, model[2].weight]
    )
    muon, adamw = optimizer.libraries
    assert isinstance(muon, torch.optim.Muon)
    assert [p for g in muon.param_groups for p in g["params"]] == [model[1].weight]
    assert {id(p) for g in adamw.param_groups for p in g["params"]} == {
        id(p) for p in (model[0].weight, model[1].bias, model[2].weight, model[2].bias)
    }


RATES = {"adafactor": 0.3, "lion": 0.01, "lion_8bit": 0.01, "sgd": 0.5, "schedule_free": 0.1}


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_optimizer_learns(name, dtype):
    model = make_model(dtype)
    settings = OptimizerSettings(kind=name, learning_rate=RATES.get(name, 0.05))
    optimizer = Optimizer(model.named_parameters(), settings, [model[0].weight, model[2].weight])
    tokens = torch.arange(16)

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(model(tokens).float(), tokens.flip(0))

    before = loss().item()
    for _ in range(60):
        loss().backward()
        optimizer.step(1.0, max_grad_norm=1.0)
    with optimizer.in_use():
        assert loss().item() < before / 4


@pytest.mark.parametrize("name", ON_CPU)
def test_every_optimizer_finds_the_minimum_of_a_bowl(name):
    """|A x - b|², whose minimum is known; the rate falls to nothing, as the sign of a gradient never does."""
    # bitsandbytes knows no float64.
    dtype = torch.float32 if KINDS[name].library == "bitsandbytes" else torch.float64
    generator = torch.Generator().manual_seed(0)
    matrix = torch.eye(6, dtype=dtype) + 0.2 * torch.randn(6, 6, generator=generator, dtype=dtype)
    target = torch.randn(6, 4, generator=generator, dtype=dtype)
    least = torch.linalg.solve(matrix, target)
    weight = nn.Parameter(torch.zeros(6, 4, dtype=dtype))
    settings = OptimizerSettings(kind=name, learning_rate=RATES.get(name, 0.05) / (5 if name == "sgd" else 1))
    optimizer = Optimizer([("weight", weight)], settings)
    steps = 800
    for step in range(steps):
        (matrix @ weight - target).square().sum().backward()
        optimizer.step(1.0 if name == "schedule_free" else 1 - step / steps, max_grad_norm=None)
    with optimizer.in_use():
        assert float((weight.detach() - least).abs().max()) < 1e-2


@pytest.mark.parametrize("name", ON_CPU)
def test_states_are_as_large_as_the_table_says(name):
    model = nn.Linear(512, 512, bias=False)
    optimizer = Optimizer(model.named_parameters(), OptimizerSettings(kind=name))
    predicted = optimizer.pending_state_bytes()
    model(torch.ones(1, 512)).sum().backward()
    optimizer.step(1.0, max_grad_norm=None)
    states = [state for library in optimizer.libraries for state in library.state.values()]
    shared = ("qmap1", "qmap2")  # tables of bitsandbytes, the same for all parameters
    held = sum(v.nbytes for s in states for k, v in s.items() if isinstance(v, torch.Tensor) and k not in shared)
    assert held == pytest.approx(predicted, rel=0.01, abs=8192)
    assert optimizer.pending_state_bytes() == 0


def test_sgd_by_hand():
    """Two steps of gradient 1: the momentum is 1, then 1.5."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = Optimizer([("w", weight)], OptimizerSettings("sgd", learning_rate=0.1, momentum=0.5))
    for _ in range(2):
        weight.sum().backward()
        optimizer.step(1.0, max_grad_norm=None)
    assert float(weight.detach()) == pytest.approx(-0.1 * (1 + 1.5))


def test_lion_by_hand():
    """Its step is the rate, whatever the gradient's size."""
    weight = nn.Parameter(torch.zeros(2))
    optimizer = Optimizer([("w", weight)], OptimizerSettings("lion", learning_rate=0.1))
    (weight * torch.tensor([1e-4, -50.0])).sum().backward()
    optimizer.step(0.5, max_grad_norm=None)
    assert weight.tolist() == pytest.approx([-0.05, 0.05])


def test_an_option_of_another_optimiser_is_refused():
    with pytest.raises(RecipeError, match=r"optimizer\.momentum with optimizer\.kind: adamw"):
        OptimizerSettings(momentum=0.9)


@pytest.mark.parametrize("name", ["adamw_paged", "adamw_8bit_paged"])
def test_paged_states_need_a_gpu(name):
    with pytest.raises(RecipeError, match=f"optimizer.kind: {name.removesuffix('_paged')}"):
        Optimizer(make_model().named_parameters(), OptimizerSettings(name))


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("schedule_free", "schedulefree", "schedule-free"), ("lion", "bitsandbytes", "quant")],
)
def test_a_missing_library_is_named(monkeypatch, name, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RecipeError, match=rf"pip install 'burnish\[{extra}\]'"):
        Optimizer(make_model().named_parameters(), OptimizerSettings(name))
