"""Runs of several processes as a user starts them: the same results, one error for a lost process, exact names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from safetensors.torch import load_file

from burnish.errors import RecipeError, RunError
from burnish.parallel.agreement import require_agreement
from burnish.parallel.launch import arguments_of_children
from burnish.parallel.mesh import Mesh
from burnish.parallel.place import Place
from burnish.rollouts.dealt import deal
from burnish.settings.parallel import Parallel
from tests.parallel.cases import write_divisible
from tests.parallel.threads import in_world
from tests.stages.small import write_world

TIMEOUT_S = 8.0
"""parallel.timeout_s of the runs in which a process is lost."""
FAULTY = """
import os, signal
from burnish.losses.cross_entropy import CrossEntropy

calls = 0

class Faulty(CrossEntropy):
    def __call__(self, scores, microbatch):
        global calls
        calls += 1
        fault = os.environ.get("FAULT", "")
        if fault and calls == 4 and os.environ.get("RANK", "0") == os.environ["FAULT_RANK"]:
            if fault == "error":
                raise RuntimeError("out of coffee")
            if fault == "exit":
                os._exit(7)
            os.kill(os.getpid(), getattr(signal, fault))
        return super().__call__(scores, microbatch)
"""
"""A loss that does what the environment says in the fourth microbatch of a process: here, one in each step."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = write_world(tmp_path_factory.mktemp("world"))
    write_divisible(place / "model", seed=0)
    (place / "faulty.py").write_text(FAULTY)
    return place


def recipe(folder: Path, place: Path, **more: Any) -> Path:
    stage = {
        "data": str(folder / "train.jsonl"),
        "sequences_per_step": 8,
        "log_every": 1,
        "checkpoint_every": 3,
        "learning_rate": 1e-3,
        "max_steps": 12,
        "loss": f"{folder / 'faulty.py'}:Faulty",
        **more,
    }
    path = place / "recipe.yaml"
    parallel = {"timeout_s": TIMEOUT_S}
    path.write_text(yaml.safe_dump({"model": str(folder / "model"), "parallel": parallel, "stages": [{"sft": stage}]}))
    return path


def command(path: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "burnish", "run", str(path), "--output", str(output), *more]


def ended(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=False)


def losses(output: Path) -> list[float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of the run of one process."""
    place = tmp_path_factory.mktemp("alone")
    done = ended(command(recipe(folder, place), place / "run"))
    assert done.returncode == 0, done.stderr
    return place / "run"


def assert_same(found: Path, expected: Path) -> None:
    assert losses(found) == pytest.approx(losses(expected), rel=1e-4)
    one, other = (load_file(output / "model" / "model.safetensors") for output in (found, expected))
    assert all(float((one[name] - weight).abs().max()) < 1e-3 for name, weight in other.items())


@pytest.mark.parametrize("starter", ["--nproc", "torchrun", pytest.param("accelerate", marks=pytest.mark.slow)])
def test_however_processes_are_started_the_run_is_that_of_one(
    folder: Path, alone: Path, tmp_path: Path, starter: str
) -> None:
    path, output = recipe(folder, tmp_path), tmp_path / "run"
    rest = ["-m", "burnish", "run", str(path), "--output", str(output)]
    commands = {
        "--nproc": command(path, output, "--nproc", "2"),
        "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *rest],
        "accelerate": [
            *(sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", *rest),
        ],
    }
    done = ended(commands[starter])
    assert done.returncode == 0, done.stderr
    assert_same(output, alone)
    assert done.stderr.count("finished: the model is in") == 1
    written = {str(each.relative_to(output)) for each in output.rglob("*")}
    assert written == {str(each.relative_to(alone)) for each in alone.rglob("*")}


def layout(mesh: Mesh) -> list[str]:
    """Options of a run with this layout."""
    return ["--nproc", str(mesh.size), f"parallel.shard={mesh.shard}", f"parallel.tensor={mesh.tensor}"]


ONE = Mesh()
LAYOUTS = {
    "1, 2, 4": (ONE, Mesh(data=2), Mesh(data=4)),
    "1, shard 2, data 2 shard 2": (ONE, Mesh(shard=2), Mesh(data=2, shard=2)),
    "shard 2, shard 4, 1": (Mesh(shard=2), Mesh(shard=4), ONE),
    "tensor 2, shard 2 tensor 2, 1": (Mesh(tensor=2), Mesh(shard=2, tensor=2), ONE),
}
QUICK = {"tensor 2, shard 2 tensor 2, 1"}


@pytest.mark.parametrize(
    "meshes",
    [pytest.param(of, id=name, marks=() if name in QUICK else pytest.mark.slow) for name, of in LAYOUTS.items()],
)
def test_a_run_goes_on_with_another_layout(
    folder: Path, alone: Path, tmp_path: Path, meshes: tuple[Mesh, Mesh, Mesh]
) -> None:
    path, output = recipe(folder, tmp_path), tmp_path / "run"
    for mesh, steps in zip(meshes[:2], (4, 8), strict=True):
        stopped = ended(command(path, output, *layout(mesh)), FAULT="SIGINT", FAULT_RANK=str(mesh.size - 1))
        assert stopped.returncode == 130, stopped.stderr
        assert len(losses(output)) == steps
    done = ended(command(path, output, *layout(meshes[2])))
    assert done.returncode == 0, done.stderr
    assert_same(output, alone)


FAULTS = {
    "error": "RuntimeError: out of coffee",
    "exit": "rank {} ended with the status 7",
    "SIGKILL": "rank {} was ended by SIGKILL",
    "SIGSTOP": f"rank {{}} has not answered for {TIMEOUT_S:.0f} s; it was last ",
}
"""What happens to a process → words of the run's error. A process that is stopped within 0.1 s of a new phase has told
of the one before, so the phase is not always that of its last step."""
_QUICK = [("SIGKILL", 1, Mesh(data=2)), ("SIGSTOP", 1, Mesh(shard=2))]
_ALL = [(fault, rank, Mesh(data=2)) for fault in FAULTS for rank in (0, 1)]
_ALL += [("SIGKILL", 0, Mesh(shard=2)), ("SIGSTOP", 1, Mesh(shard=2)), ("error", 1, Mesh(shard=2))]


@pytest.mark.parametrize(
    ("fault", "rank", "mesh"), [pytest.param(*each, marks=() if each in _QUICK else pytest.mark.slow) for each in _ALL]
)
def test_a_lost_process_ends_the_run_with_its_name(
    folder: Path, alone: Path, tmp_path: Path, fault: str, rank: int, mesh: Mesh
) -> None:
    path, output = recipe(folder, tmp_path), tmp_path / "run"
    done = ended(command(path, output, *layout(mesh)), FAULT=fault, FAULT_RANK=str(rank))
    assert done.returncode not in (0, 130)
    assert FAULTS[fault].format(rank) in done.stderr, done.stderr
    assert [each for each in psutil.process_iter(["cmdline"]) if str(output) in (each.info["cmdline"] or [])] == []
    assert ended(command(path, output)).returncode == 0, "it resumes, alone"
    assert_same(output, alone)


def test_a_ctrl_c_stops_all_with_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    path, output = recipe(folder, tmp_path, max_steps=10_000), tmp_path / "run"
    running = subprocess.Popen(command(path, output, "--nproc", "2"), stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("step 2/"):
            running.send_signal(signal.SIGINT)
            break
    _, said = running.communicate()
    assert running.returncode == 130, said
    assert "a checkpoint is written" in said
    assert any((output / "checkpoints").iterdir())


def test_processes_of_other_recipes_do_not_train_together() -> None:
    def agree(facts: Mapping[int, Mapping[str, str]]) -> None:
        in_world(2, lambda world: require_agreement(world, facts[world.rank]))

    agree({0: {"the data": "a"}, 1: {"the data": "a"}})
    with pytest.raises(RunError, match="the data of rank 1: b; of rank 0: a"):
        agree({0: {"the data": "a"}, 1: {"the data": "b"}})
    with pytest.raises(RunError, match="the rewards of rank 1: none"):
        agree({0: {"the rewards": "a"}, 1: {}})


def test_a_layout_is_that_of_the_processes() -> None:
    assert Parallel().mesh(3) == Mesh(data=3)
    assert Parallel(data=3).mesh(3) == Mesh(data=3)
    assert Parallel(shard=2).mesh(4) == Mesh(data=2, shard=2)
    assert Parallel(shard="auto").mesh(4) == Mesh(shard=4)
    assert Parallel(data=2, shard="auto").mesh(4) == Mesh(data=2, shard=2)
    assert Parallel(tensor=2, shard="auto").mesh(8) == Mesh(shard=4, tensor=2)
    for settings, size in ((Parallel(data=2), 3), (Parallel(shard=2), 3), (Parallel(shard=2), 1)):
        with pytest.raises(RecipeError, match=rf"and {size} process"):
            settings.mesh(size)


def test_the_place_is_read_from_the_environment() -> None:
    place = Place(1, 2, 1, "10.0.0.1", 29500, has_store=True)
    assert Place.from_environment(place.variables()) == place
    assert Place.from_environment({}) is None
    assert Place.from_environment({**place.variables(), "WORLD_SIZE": "1"}) is None
    with pytest.raises(RecipeError, match="MASTER_ADDR is not"):
        Place.from_environment({"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"})
    with pytest.raises(RecipeError, match="no number"):
        Place.from_environment({**place.variables(), "MASTER_PORT": "x"})


def test_arguments_of_the_processes() -> None:
    words = ["run", "r.yaml", "--nproc=2", "--output", "a", "--fresh", "output=b", "seed=1", "--nproc", "2"]
    assert arguments_of_children(words, "c") == ["run", "r.yaml", "seed=1", "--output", "c"]


def test_prompts_are_dealt_by_cost() -> None:
    assert deal([1, 5, 2, 4], 2) == [[0, 1], [2, 3]]
    assert deal([1, 1], 3) == [[0], [1], []]
    hands = deal([9, 1, 1, 1, 1, 1, 1, 1, 1, 1], 2)
    assert sorted(item for hand in hands for item in hand) == list(range(10))
    assert hands[0] == [0]
