"""Real processes over gloo take the step of one process: every method, full weights and adapters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.parallel.mesh import Mesh
from burnish.parallel.world import ONE_PROCESS
from tests.parallel.cases import ADAPTERS, LAYOUTS, METHODS, settings_of, write_cases
from tests.parallel.gradients import FirstStep, first_step, furthest
from tests.parallel.group import Processes, processes
from tests.parallel.work import bytes_summed, collective_values, traffic_of_step

BOUND = 1e-10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def groups() -> Iterator[dict[int, Processes]]:
    """Processes by their number; those of a number are started once."""
    with processes(2) as two, processes(4) as four:
        yield {2: two, 4: four}


QUICK_METHODS = ("sft", "dpo", "kto", "grpo", "grpo, images")
QUICK_LAYOUTS = ("data=2", "shard=2", "shard=2, tensor=2")
SLOW_LAYOUTS = ("shard=2", "shard=2, tensor=2")
"""Layouts of all methods; `python -m scripts.layouts` computes every cell."""


@pytest.fixture(scope="module", params=[(method, adapter) for method in METHODS for adapter in ADAPTERS], ids="-".join)
def case(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any], FirstStep]:
    """Stage, settings, and what one process gets."""
    method, adapter = request.param
    stage, settings = settings_of(method, adapter, folder)
    return stage, settings, first_step(ONE_PROCESS, folder, stage, settings)


def cases() -> list[Any]:
    """Fast and slow cases: method and adapter, and layout."""
    quick = {(method, layout) for method in QUICK_METHODS for layout in QUICK_LAYOUTS}
    slow = {(method, layout) for method in METHODS for layout in SLOW_LAYOUTS}
    slow |= {(method, layout) for method in ("sft", "grpo") for layout in LAYOUTS}
    return [
        pytest.param((method, adapter), layout, marks=() if (method, layout) in quick else pytest.mark.slow)
        for method in METHODS
        for adapter in ADAPTERS
        for layout in LAYOUTS
        if (method, layout) in quick | slow
    ]


@pytest.mark.parametrize(
    ("case", "layout"), cases(), indirect=["case"], ids=lambda each: "-".join(each) if isinstance(each, tuple) else each
)
def test_gradients_are_those_of_one_process(
    groups: dict[int, Processes], folder: Path, case: tuple[str, dict[str, Any], FirstStep], layout: str
) -> None:
    stage, settings, alone = case
    mesh = LAYOUTS[layout]
    ranks = groups[mesh.size](first_step, folder, stage, settings, mesh=mesh)
    assert alone.gradients
    for found in ranks:
        assert furthest(found, alone) <= BOUND
        assert found.metrics == pytest.approx(alone.metrics, rel=1e-9, abs=1e-9)
        assert found.metrics == ranks[0].metrics, "every rank reports the same bits"
        assert all(torch.equal(each, ranks[0].gradients[name]) for name, each in found.gradients.items())
        assert found.num_backwards <= math.ceil(alone.num_backwards / mesh.shares), "they share the microbatches"


def test_what_processes_say_to_each_other(groups: dict[int, Processes]) -> None:
    for size, group in groups.items():
        for rank, found in enumerate(group(collective_values)):
            assert found["rank"] == rank
            assert found["gathered"] == [{"rank": other, "tensor": [float(other)]} for other in range(size)]
            assert found["sum"] == sum(range(size))
            assert found["sums"] == {"all": float(size), "main": 7.0}
            assert found["gradients"] == [[float(size)], [3.0], None]
            assert found["shards"] == list(range(7))


def test_a_step_sends_each_gradient_once(groups: dict[int, Processes]) -> None:
    """Four bytes for each weight, and as much for each tensor: whether anybody has its gradient."""
    sizes = (3_000_000, 7_000_000, 1, 12)
    for sent in groups[2](bytes_summed, sizes):
        assert sent == 4 * (sum(sizes) + len(sizes))


@pytest.mark.parametrize("mesh", LAYOUTS.values(), ids=LAYOUTS)
def test_a_step_sends_what_the_formulas_say(groups: dict[int, Processes], folder: Path, mesh: Mesh) -> None:
    """Those by which docs/parallel.md counts the bytes of many GPUs."""
    for found, expected in groups[mesh.size](traffic_of_step, folder / "model", 3, mesh=mesh):
        assert found == {
            "all_gather": expected.all_gather,
            "reduce_scatter": expected.reduce_scatter,
            "all_reduce": expected.all_reduce,
        }
