"""Several processes beside one: seconds of a step, memory of each process, bytes that it sends.

    python benchmarks/parallel.py
    python benchmarks/parallel.py --size 15M --rounds 3 --only "data=2" "shard=2"

Supervised steps of a model with random weights over gloo, one thread for each process, so that one process with one
thread is the measure: N processes on N free cores would take 1/N of its time. Layouts run in turn. Bytes of weights,
gradients and optimizer are counted, and beside them what the layout should have; the peak of the whole process is that
of the operating system.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from sft_step import SIZES, make_policy

from burnish.losses.cross_entropy import CrossEntropy
from burnish.model.divide import divisible_of
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.parallel.mesh import Mesh
from burnish.parallel.place import Place
from burnish.parallel.processes import joined
from burnish.parallel.rendezvous import serve_store
from burnish.parallel.world import ONE_PROCESS, World
from burnish.train.step import Trainer
from burnish.types import Group, Response

LAYOUTS = {
    "1": Mesh(),
    "data=2": Mesh(data=2),
    "shard=2": Mesh(shard=2),
    "tensor=2": Mesh(tensor=2),
    "data=4": Mesh(data=4),
    "shard=4": Mesh(shard=4),
    "data=2, shard=2": Mesh(data=2, shard=2),
    "shard=2, tensor=2": Mesh(shard=2, tensor=2),
}
STEPS, BUDGET = 4, 2048
STATE_BYTES = 16
"""Of a trained float32 weight: itself, its gradient, and two states of AdamW."""


def rows_of(count: int, vocabulary: int) -> list[Group]:
    draw = np.random.default_rng(0)
    groups = []
    for _ in range(count):
        prompt, answer = (torch.from_numpy(draw.integers(0, vocabulary, int(n))) for n in draw.integers(60, 200, 2))
        response = Response(tokens=answer, trainable=torch.ones(len(answer), dtype=torch.bool))
        groups.append(Group(prompt=prompt, responses=(response,)))
    return groups


def measure(world: World, size: str, rows: int) -> dict[str, float]:
    """Figures of this process."""
    torch.set_num_threads(1)
    whole = make_policy(size)
    total = sum(p.numel() for _, p in whole.named_parameters())
    policy = replace(whole, placement=world.place(divisible_of(whole, cut_head=True)))
    optimizer = Optimizer(policy.trained_parameters(), OptimizerSettings(), placement=policy.placement)
    trainer = Trainer(policy, optimizer, world=world)
    groups = rows_of(rows, SIZES[size]["vocab_size"])
    seconds, losses = [], []
    for _ in range(1 + STEPS):
        world.wait()
        began = time.perf_counter()
        losses.append(float(trainer.step(groups, CrossEntropy(), BUDGET, 1.0)["loss"]))
        world.wait()
        seconds.append(time.perf_counter() - began)
    masters = optimizer.masters.masters
    states = [s for library in optimizer.libraries for of in library.state.values() for s in of.values()]
    kept = sum(2 * m.numel() * m.element_size() for m in masters) + sum(s.nbytes for s in states)
    return {
        "seconds": statistics.median(seconds[1:]),
        "first_loss": losses[0],
        "loss": losses[-1],
        "kept": kept,
        "whole": STATE_BYTES * total,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _process(place: Place, mesh: Mesh, size: str, rows: int, results: Any) -> None:
    if place.size == 1:
        results.put(measure(ONE_PROCESS, size, rows))
        return
    with joined(place, torch.device("cpu"), 600.0, mesh) as world:
        results.put(measure(world, size, rows))


def measured(mesh: Mesh, size: str, rows: int) -> list[dict[str, float]]:
    """Figures of every process of a layout."""
    context, store = multiprocessing.get_context("spawn"), serve_store()
    results = context.Queue()
    places = [Place(rank, mesh.size, rank, "127.0.0.1", store.port, True) for rank in range(mesh.size)]
    processes = [context.Process(target=_process, args=(place, mesh, size, rows, results)) for place in places]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Parser of the arguments that all comparisons of layouts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="15M")
    parser.add_argument("--rows", type=int, default=32, help="rows of a step")
    parser.add_argument("--rounds", type=int, default=3)
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="*", choices=LAYOUTS, default=list(LAYOUTS))
    options = parser.parse_args()
    names = ["1", *(name for name in options.only if name != "1")]
    figures: dict[str, list[list[dict[str, float]]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            figures[name].append(measured(LAYOUTS[name], options.size, options.rows))
            print(name, json.dumps(figures[name][-1][0]), file=sys.stderr, flush=True)
    alone = statistics.median(of[0]["seconds"] for of in figures["1"])
    print("| layout | s a step | of one process | state of a process, MB | of theory | peak of a process, MB | loss |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in figures.items():
        mesh, first = LAYOUTS[name], rounds[0]
        seconds = statistics.median(of[0]["seconds"] for of in rounds)
        kept, theory = max(of["kept"] for of in first), first[0]["whole"] / mesh.shard / mesh.tensor
        peak = max(of["peak"] for of in first)
        cells = [f"{seconds:.2f}", f"{seconds / alone:.2f}×", f"{kept / 1e6:.0f}", f"{kept / theory:.2f}×"]
        print(f"| {name} | {' | '.join(cells)} | {peak / 1e6:.0f} | {first[0]['loss']:.6f} |")


if __name__ == "__main__":
    main()
