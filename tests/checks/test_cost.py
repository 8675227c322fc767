"""The estimate is of this model, and what is much wants leave."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from burnish.checks.cost import estimate
from burnish.errors import CapacityError
from tests.checks.conftest import LORA

KINDS = {
    "full": (),
    "lora": LORA,
    "one layer": (*LORA, "adapter.targets=[q_proj]"),
    "dora": (*LORA, "adapter.dora=true", "adapter.layers=[1]"),
    "pissa": (*LORA, "adapter.init=pissa"),
    "whole": (*LORA, "adapter.modules_to_save=[norm]"),
    "ia3": ("adapter.kind=ia3",),
    "vera": ("adapter.kind=vera", "adapter.rank=4"),
    "freeze": ("adapter.freeze=[embed_tokens]",),
    "qlora": ("adapter.kind=qlora", "adapter.rank=4"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_counted_without_weights(make_subject, kind):
    subject = make_subject(*KINDS[kind])
    cost = estimate(subject)
    assert cost.trained == sum(p.numel() for _, p in subject.policy.trained_parameters())
    if kind in ("full", "lora", "one layer", "freeze"):
        adapter = 0 if kind in ("full", "freeze") else cost.trained
        assert cost.parameters == sum(p.numel() for p in subject.policy.model.parameters()) - adapter


def test_quantised_weights_need_less(make_subject):
    """All but embedding and head in about an eighth of float32, and no float64 copy."""
    plain, four = estimate(make_subject(*LORA)), estimate(make_subject(*KINDS["qlora"]))
    assert four.parameters == plain.parameters
    assert four.copy_dtype == torch.float32
    assert four.memory < plain.memory
    assert four.disk < plain.disk


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
