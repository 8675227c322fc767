"""The estimate is of this model, and what is much wants leave."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.checks import estimate
from burnish.errors import CapacityError
from tests.checks.conftest import LORA


@pytest.mark.parametrize("settings", [(), LORA, (*LORA, "adapter.targets=[q_proj]")], ids=["full", "lora", "one layer"])
def test_parameters_are_counted_without_weights(make_subject, settings):
    subject = make_subject(*settings)
    cost = estimate(subject)
    assert cost.trained == sum(p.numel() for _, p in subject.policy.trained_parameters())
    adapter = cost.trained if settings else 0
    assert cost.parameters == sum(p.numel() for p in subject.policy.model.parameters()) - adapter


def test_copies_and_optimiser_need_memory(make_subject):
    """Full weights in float32: at least a float64 copy with its gradient beside it."""
    cost = estimate(make_subject())
    assert cost.copy_dtype == torch.float64
    assert cost.memory >= cost.parameters * (4 + 8 + 8)


def test_what_is_much_wants_leave(make_subject):
    cost = estimate(make_subject())
    cost.require_leave()
    with pytest.raises(CapacityError, match=r"more than 2 minutes") as long:
        replace(cost, seconds=121.0).require_leave()
    assert "--yes" in str(long.value)
    with pytest.raises(CapacityError, match=r"more memory than is free"):
        replace(cost, memory=cost.free + 1).require_leave()
    with pytest.raises(CapacityError, match=r"more disk than is free"):
        replace(cost, disk=cost.free_disk + 1).require_leave()
