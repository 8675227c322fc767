"""The peak of a device: what products of matrices reach, measured once, and leaving no trace in the run."""

from __future__ import annotations

import time

import pytest
import torch

from burnish.watch.meter import peak_memory_gib
from burnish.watch.peak import measured_peak

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_no_product_is_faster_than_the_peak_by_much(dtype):
    """The peak of a disturbed machine is low at worst by what the disturbance took: a factor, not a power of ten."""
    peak = measured_peak(CPU, dtype)
    left, right = torch.randn(2, 512, 512).to(dtype)
    times = []
    for _ in range(5):
        since = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - since)
    assert 2 * 512**3 / min(times) < 10 * peak


def test_it_is_measured_once():
    assert measured_peak(CPU, torch.float32) == measured_peak(CPU, torch.float32)


def test_generators_are_left_alone():
    before = torch.get_rng_state()
    measured_peak.__wrapped__(CPU, torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_only_grows_and_sees_what_was_needed():
    before = peak_memory_gib(CPU)
    torch.ones(2**27).sum()  # half a GiB, if the machine had not needed as much before
    after = peak_memory_gib(CPU)
    assert after >= before
    assert after > 0.5
