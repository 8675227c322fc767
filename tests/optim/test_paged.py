"""States that leave the GPU: only there can all of it be tried."""

import pytest
import torch
from bitsandbytes.optim import PagedAdamW8bit
from torch import nn

from burnish.optim.libraries import page_again
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.runs.optimizer_state import flatten_optimizer, restore_optimizer


def test_what_is_paged_again_has_the_same_numbers():
    """On a CPU, where bitsandbytes says that it does not page."""
    weight = nn.Parameter(torch.ones(64, 80))
    library = PagedAdamW8bit([weight])
    weight.square().sum().backward()
    with pytest.warns(UserWarning, match="not supported on CPU"):
        library.step()
    before = {key: library.state[weight][key] for key in ("state1", "state2")}
    page_again(library)
    for key, value in before.items():
        assert library.state[weight][key] is not value
        assert torch.equal(library.state[weight][key], value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["adamw_paged", "adamw_8bit_paged"])
def test_paged_states_go_on_bit_for_bit_and_stay_paged(name):
    def made() -> tuple[nn.Linear, Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(512, 512).cuda()
        return model, Optimizer(model.named_parameters(), OptimizerSettings(name, learning_rate=1e-2))

    def train(model: nn.Linear, optimizer: Optimizer) -> None:
        model(torch.ones(2, 512, device="cuda")).square().sum().backward()
        optimizer.step(1.0, max_grad_norm=None)

    (first, optimizer), (second, fresh) = made(), made()
    train(first, optimizer)
    second.load_state_dict(first.state_dict())
    tensors, values = flatten_optimizer(optimizer.libraries[0])
    restore_optimizer(fresh.libraries[0], {k: v.clone() for k, v in tensors.items()}, values)
    fresh.load_state_dict(*optimizer.state_dict())
    assert fresh.libraries[0].state[second.weight]["state1"].is_paged
    for model, its in ((first, optimizer), (second, fresh)):
        train(model, its)
    assert torch.equal(first.weight, second.weight)
