"""Snapshots that follow their policy: soft updates in a narrow type, their state, and the weights that are followed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from burnish.builtin.tiny import make_model
from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings

SHARE = 0.05


def make_policy(dtype: torch.dtype = torch.bfloat16) -> Model:
    return Model(make_model(0, hidden_size=32, layers=1).to(dtype), None)


def weights_of(snapshot: Snapshot) -> dict[str, Tensor]:
    with snapshot.in_place() as policy:
        return {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}


@torch.no_grad()
def move(policy: Model, factor: float) -> None:
    for _, parameter in policy.trained_parameters():
        parameter.mul_(factor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_soft_updates_are_those_of_float32_and_rounded_once(dtype: torch.dtype) -> None:
    policy = make_policy(dtype)
    snapshot, before = Snapshot(policy), {n: p.detach().double().clone() for n, p in policy.trained_parameters()}
    move(policy, 1.02)
    for _ in range(40):
        snapshot.follow(SHARE)
    for name, parameter in policy.trained_parameters():
        exact = parameter.double() + (1 - SHARE) ** 40 * (before[name] - parameter.double())
        expected = exact.to(dtype)
        tolerance = {torch.bfloat16: 2**-8, torch.float16: 2**-10}.get(dtype, 1e-5)
        assert weights_of(snapshot)[name].dtype == dtype, name
        torch.testing.assert_close(weights_of(snapshot)[name], expected, rtol=tolerance, atol=1e-7)


def test_a_resumed_snapshot_goes_on_bit_for_bit() -> None:
    policy = make_policy()
    snapshot = Snapshot(policy)
    move(policy, 1.02)
    for _ in range(3):
        snapshot.follow(SHARE)
    tensors, values = snapshot.state_dict()
    again = Snapshot(policy)
    again.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, values)
    for _ in range(3):
        snapshot.follow(SHARE)
        again.follow(SHARE)
    one, other = snapshot.state_dict()[0], again.state_dict()[0]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_hard_update_is_the_policy_and_needs_no_average() -> None:
    policy = make_policy()
    snapshot = Snapshot(policy)
    move(policy, 1.02)
    snapshot.follow(SHARE)
    snapshot.follow(1.0)
    assert all(torch.equal(weights_of(snapshot)[name], parameter) for name, parameter in policy.trained_parameters())
    assert not [name for name in snapshot.state_dict()[0] if name.startswith("averages/")]


def test_masters_are_followed_where_the_optimizer_has_them() -> None:
    """A change of the policy below its own rounding arrives."""
    policy = make_policy()
    optimizer = Optimizer(policy.trained_parameters(), OptimizerSettings())
    snapshot, before = Snapshot(policy), {n: p.detach().clone() for n, p in policy.trained_parameters()}
    snapshot.follow_weights(dict(zip(optimizer.names, optimizer.masters.weights, strict=True)))
    with torch.no_grad():
        for master in optimizer.masters.weights:
            master.mul_(1 + 2**-10)
    optimizer.masters.write_back()
    assert all(torch.equal(parameter, before[name]) for name, parameter in policy.trained_parameters())
    snapshot.follow(0.5)
    for name, average in snapshot.state_dict()[0].items():
        if name.startswith("averages/"):
            expected = before[name.removeprefix("averages/")].float() * (1 + 2**-11)
            torch.testing.assert_close(average, expected, rtol=1e-6, atol=0)
