"""Generators continue exactly where they were captured, through a checkpoint on the disk."""

import random

import numpy as np
import pytest
import torch

from burnish.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from burnish.runs.random_state import capture_random, restore_random, restore_threads, thread_settings


@pytest.fixture(autouse=True)
def settings():
    before = thread_settings()
    yield
    restore_threads(before)


def draw():
    drawn = [random.random(), random.gauss(), random.getrandbits(100), np.random.rand(), np.random.randn()]
    drawn += [torch.rand(3).tolist(), torch.randn(17).tolist(), torch.randperm(9).tolist()]
    if torch.cuda.is_available():
        drawn += [torch.rand(3, device=f"cuda:{index}").tolist() for index in range(torch.cuda.device_count())]
    return drawn


@pytest.mark.parametrize("draws_before", [0, 1, 2, 700])
def test_the_same_numbers_again(tmp_path, draws_before):
    random.seed(draws_before)
    np.random.seed(draws_before)
    torch.manual_seed(draws_before)
    for _ in range(draws_before):
        # gauss and randn make two numbers and keep one: odd and even counts differ.
        random.gauss()
        np.random.randn()
        torch.randn(1)
    tensors, values = capture_random()
    path = save_checkpoint(tmp_path, Checkpoint(1, tensors, {"random": values}), None)
    expected = [draw() for _ in range(3)]
    checkpoint = load_checkpoint(path)
    restore_random(checkpoint.tensors, checkpoint.values["random"])
    assert [draw() for _ in range(3)] == expected


def test_capture_changes_nothing():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    capture_random()
    assert torch.equal(torch.rand(1), expected)


def test_names():
    tensors, _ = capture_random()
    assert all(name.startswith("random/") for name in tensors)


def test_threads_and_determinism():
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    tensors, values = capture_random()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)
    restore_random(tensors, values)
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
