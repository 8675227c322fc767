"""Whole runs of every stage with divided weights: metrics, evaluations and the model are those of one process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from burnish.parallel.mesh import Mesh
from burnish.parallel.world import ONE_PROCESS
from tests.parallel.cases import write_cases
from tests.parallel.group import Processes, processes
from tests.parallel.work import whole_run

TIMES = ("wall_time_s", "tokens_per_second", "seconds", "mfu", "memory_gib", "tflops")
"""Beginnings or ends of the names of metrics that differ from run to run."""
METHODS = ("sft", "dpo", "reward", "grpo", "ppo", "distill")
MESHES = {"shard=2": Mesh(shard=2), "tensor=2": Mesh(tensor=2)}
QUICK = {("grpo", "shard=2"), ("sft", "tensor=2")}
CASES = [
    pytest.param(method, name, adapter, marks=() if (method, name) in QUICK else pytest.mark.slow)
    for method in METHODS
    for name in MESHES
    for adapter in ("full", "lora")
    if adapter == "full" or (method, name) in QUICK
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def group() -> Iterator[Processes]:
    with processes(2) as two:
        yield two


def written(output: Path) -> list[Mapping[str, Any]]:
    lines = (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith(TIMES) and "second" not in name}
        for line in lines
    ]


def same(found: object, expected: object) -> bool:
    is_number = isinstance(expected, int | float)
    return bool(found == (pytest.approx(expected, rel=1e-10, abs=1e-12) if is_number else expected))


@pytest.mark.parametrize(("method", "layout", "adapter"), CASES)
def test_a_run_is_that_of_one_process(
    group: Processes, folder: Path, tmp_path: Path, method: str, layout: str, adapter: str
) -> None:
    alone, divided = tmp_path / "alone", tmp_path / "divided"
    whole_run(ONE_PROCESS, folder, method, adapter, alone)
    group(whole_run, folder, method, adapter, divided, mesh=MESHES[layout])
    found, expected = written(divided), written(alone)
    assert len(found) == len(expected) > 2
    for line, usual in zip(found, expected, strict=True):
        assert line.keys() == usual.keys()
        # Before the first update the policy is its reference: every pair is a tie, which rounding may break.
        tied = "pair_accuracy" if method == "dpo" and usual["step"] <= 1 else " "
        assert [key for key in usual if tied not in key and not same(line[key], usual[key])] == []
    name = "model.safetensors" if adapter == "full" else "adapter_model.safetensors"
    one, other = (load_file(output / "model" / name) for output in (divided, alone))
    assert one.keys() == other.keys()
    far = {key: float((one[key] - weight).abs().max()) for key, weight in other.items()}
    assert {key: gap for key, gap in far.items() if gap >= 1e-12} == {}
