"""Copies are made only where safetensors needs them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from burnish.runs.storable import storable

SLICES = st.tuples(st.integers(0, 9), st.integers(0, 10), st.integers(1, 3))


@settings(deadline=None)
@given(st.lists(SLICES, max_size=8))
def test_any_views_of_one_memory_can_be_stored(slices):
    base = torch.arange(10)
    tensors = {str(index): base[start:end:step] for index, (start, end, step) in enumerate(slices)}
    stored = storable(tensors)
    loaded = load(save(stored.tensors))
    loaded |= {name: loaded[original] for name, original in stored.same.items()}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_nothing_is_copied_without_need():
    base = torch.arange(10.0)
    tensors = {"left": base[:5], "right": base[5:], "own": torch.ones(3), "again": base[:5]}
    stored = storable(tensors)
    assert stored.same == {"again": "left"}
    assert all(stored.tensors[name].data_ptr() == tensors[name].data_ptr() for name in stored.tensors)
