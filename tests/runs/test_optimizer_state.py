"""Interrupted and resumed training ends with the same bits as undisturbed training."""

import copy

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from torch import nn

from burnish.errors import RunError
from burnish.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from burnish.runs.optimizer_state import flatten_optimizer, restore_optimizer


def groups(model):
    return [{"params": [model[0].weight], "lr": 3e-3}, {"params": [model[2].weight], "weight_decay": 0.3}]


def biased(model):
    return [{"params": [model[0].weight, model[2].weight]}, {"params": [model[0].bias], "lr": 1e-4}]


OPTIMIZERS = {
    "adamw": lambda model: torch.optim.AdamW(biased(model), betas=(0.8, 0.9)),
    "adamw fused": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True),
    "adamw amsgrad foreach": lambda model: torch.optim.AdamW(model.parameters(), foreach=True, amsgrad=True),
    "adamw, rate a tensor": lambda model: torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-2), fused=True),
    "muon": lambda model: torch.optim.Muon(groups(model), lr=1e-2, ns_steps=3),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9),
    # 64 x 80 is over the 4096 elements from which states have 8 bits, 80 is not.
    "adamw 8 bit": lambda model: AdamW8bit(model.parameters(), lr=1e-2),
}
DTYPES = [torch.float32, torch.bfloat16]


def new_model(dtype):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 80), nn.Tanh(), nn.Linear(80, 64)).to(dtype)


def train(model, optimizer, steps):
    for step in steps:
        for group in optimizer.param_groups:
            if not isinstance(group["lr"], torch.Tensor):
                group["lr"] *= 0.9
        inputs = torch.randn(4, 64, generator=torch.Generator().manual_seed(step)).to(model[0].weight.dtype)
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()


def through_disk(folder, model, optimizer, step):
    """A fresh model with the saved weights, and the saved state."""
    tensors, values = flatten_optimizer(optimizer)
    tensors |= {f"model/{name}": weight for name, weight in model.state_dict().items()}
    path = save_checkpoint(folder, Checkpoint(step, tensors, {"optimizer": values}), 1)
    checkpoint = load_checkpoint(path)
    fresh = new_model(next(model.parameters()).dtype)
    weights = {n.removeprefix("model/"): w for n, w in checkpoint.tensors.items() if n.startswith("model/")}
    fresh.load_state_dict(weights)
    return fresh, checkpoint


def same_bits(one, other):
    assert one.dtype == other.dtype
    return torch.equal(one.detach().reshape(-1).view(torch.uint8), other.detach().reshape(-1).view(torch.uint8))


def assert_same_state(one, other):
    assert len(one.state) == len(other.state)
    for mine, theirs in zip(one.state.values(), other.state.values(), strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            if isinstance(value, torch.Tensor):
                assert same_bits(value, theirs[key]), key
            else:
                assert (type(value), value) == (type(theirs[key]), theirs[key])
    plain = [[{k: v for k, v in group.items() if k != "params"} for group in o.param_groups] for o in (one, other)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 1, 5])
def test_resumed_is_undisturbed(tmp_path, kind, dtype, before):
    undisturbed = new_model(dtype)
    optimizer = OPTIMIZERS[kind](undisturbed)
    train(undisturbed, optimizer, range(before))

    resumed, checkpoint = through_disk(tmp_path, undisturbed, optimizer, before)
    fresh = OPTIMIZERS[kind](resumed)
    restore_optimizer(fresh, checkpoint.tensors, checkpoint.values["optimizer"])
    assert_same_state(optimizer, fresh)
    kept = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}

    train(undisturbed, optimizer, range(before, before + 4))
    train(resumed, fresh, range(before, before + 4))
    assert_same_state(optimizer, fresh)
    for name, weight in undisturbed.state_dict().items():
        assert same_bits(weight, resumed.state_dict()[name]), name
    for name, tensor in checkpoint.tensors.items():
        assert name.startswith("model/") or same_bits(tensor, kept[name]), "steps must not write into the checkpoint"


def test_the_8_bit_case_has_8_bits(tmp_path):
    model = new_model(torch.float32)
    optimizer = OPTIMIZERS["adamw 8 bit"](model)
    train(model, optimizer, range(1))
    assert optimizer.state[model[0].weight]["state1"].dtype == torch.uint8
    _, checkpoint = through_disk(tmp_path, model, optimizer, 1)
    maps = [name for name in checkpoint.tensors if name.endswith("qmap1")]
    assert len(maps) == 2
    assert len({checkpoint.tensors[name].data_ptr() for name in maps}) == 1, "what is shared is stored once"


def test_states_wider_than_their_parameters(tmp_path):
    """float32 moments of bfloat16 weights, which torch's own load_state_dict would round."""
    model = new_model(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.randn(parameter.shape)
    resumed, checkpoint = through_disk(tmp_path, model, optimizer, 1)
    fresh = torch.optim.SGD(resumed.parameters(), lr=0.1, momentum=0.9)
    restore_optimizer(fresh, checkpoint.tensors, checkpoint.values["optimizer"])
    assert_same_state(optimizer, fresh)


def test_parameters_without_a_state(tmp_path):
    """A parameter that never had a gradient has no state, and gets none."""
    model = new_model(torch.float32)
    optimizer = torch.optim.AdamW(model.parameters())
    model[2](torch.ones(1, 80)).sum().backward()
    optimizer.step()
    resumed, checkpoint = through_disk(tmp_path, model, optimizer, 1)
    fresh = torch.optim.AdamW(resumed.parameters())
    restore_optimizer(fresh, checkpoint.tensors, checkpoint.values["optimizer"])
    assert_same_state(optimizer, fresh)
    assert resumed[0].weight not in fresh.state
    assert resumed[2].weight in fresh.state


def test_several_optimisers_in_one_checkpoint():
    model = new_model(torch.float32)
    first, second = torch.optim.AdamW([model[0].weight]), torch.optim.AdamW([model[2].weight])
    model(torch.ones(1, 64)).sum().backward()
    first.step()
    second.step()
    tensors, values = flatten_optimizer(first, "policy/")
    more, other_values = flatten_optimizer(second, "critic/")
    assert not tensors.keys() & more.keys()
    twin = copy.deepcopy(model)
    fresh = torch.optim.AdamW([twin[2].weight])
    restore_optimizer(fresh, tensors | more, other_values, "critic/")
    assert_same_state(second, fresh)
    with pytest.raises(RunError, match="shapes"):
        restore_optimizer(fresh, tensors | more, values, "policy/")


def test_another_kind_is_refused():
    model = new_model(torch.float32)
    tensors, values = flatten_optimizer(torch.optim.AdamW(model.parameters()))
    with pytest.raises(RunError, match="AdamW, here it is SGD"):
        restore_optimizer(torch.optim.SGD(model.parameters(), lr=1), tensors, values)


def test_kernels_are_a_matter_of_the_machine():
    model = new_model(torch.float32)
    tensors, values = flatten_optimizer(torch.optim.AdamW(model.parameters(), fused=True, lr=0.5))
    fresh = torch.optim.AdamW(model.parameters(), foreach=True, lr=0.1)
    restore_optimizer(fresh, tensors, values)
    (group,) = fresh.param_groups
    assert (group["foreach"], group["fused"], group["lr"]) == (True, None, 0.5)
    assert isinstance(group["betas"], tuple)
