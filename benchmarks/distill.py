"""Distillation at equal processor seconds: on the student's own responses, on the teacher's, and SFT on the teacher's.

    python benchmarks/distill.py --seeds 3 --json docs/pictures/distill.json --picture docs/pictures/distill.png

The teacher is recipes/distill-teacher.yaml (trained here if it is missing in --folder). For each seed builtin:tiny
is fine-tuned for 200 steps, and from these weights each method trains in a process of its own, with an empty cache, on
questions without answers: on-policy by the top-k reverse KL, off-policy by the top-k forward KL on text of the teacher,
and cross-entropy on the same text. The clock counts processor seconds of all that a method needs, from the reading of
its data on: the teacher's responses and tables, its forwards, sampling, training. It stands still at evaluations;
training of teacher and start is not on it. On-policy has --steps steps, and the mean of its seconds is the budget: a
short run of each other method tells how many steps it has in this time. Measured on all held-out questions: the KL
divergence from student to teacher on responses that the student samples, the agreement of the most probable tokens, and
the accuracy of greedy answers. With OMP_NUM_THREADS=1 other work of the machine matters little. Results that the JSON
has are not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[1]
PROMPTS = 1000
"""Questions that the teacher answers; on-policy draws from all 4 000, each at most once."""
CALIBRATION = (5, 20)
"""Steps between which the seconds of a step are taken."""
EVALUATIONS = 3
"""Evaluations of a run after that of the start, which on-policy alone makes: all begin with the same weights."""
SHARED: Mapping[str, Any] = {
    "eval_data": "builtin:reasoning-math/test",
    "chat_template": "chatml",
    "reward": "number",  # measured only
    "responses_per_prompt": 1,
    "groups_per_step": 16,
    "max_new_tokens": 56,
    "evaluation": {"prompts": 400, "teacher_prompts": 400, "kl_prompts": 0, "teacher_accuracy": False},
}
GIVEN = {"data": f"builtin:reasoning-math#{PROMPTS}", "response_source": "teacher"}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "on-policy": {"data": "builtin:reasoning-math", "divergence": "reverse_kl", "learning_rate": 7e-4},
    "off-policy": {**GIVEN, "divergence": "forward_kl", "learning_rate": 1e-3},
    "SFT on the teacher's text": {**GIVEN, "loss": "cross_entropy", "learning_rate": 2e-3},
}
ON_POLICY = "on-policy"
COLORS = ("#b5541c", "#33658a", "#7a8b3c")
FIGURES = ("teacher_kl", "teacher_agreement", "accuracy")
Curve = dict[str, list[float]]
"""steps and seconds, and each of `FIGURES` where they are measured."""


class Clock:
    """Processor seconds of this process and of its reward workers, without those in which it stands still."""

    def __init__(self) -> None:
        self._paused, self._since = 0.0, processor_seconds()

    def stop(self) -> float:
        """Seconds until now."""
        self._stopped = processor_seconds()
        return self._stopped - self._since - self._paused

    def go_on(self) -> None:
        """Leaves out the time since it was stopped."""
        self._paused += processor_seconds() - self._stopped


def processor_seconds() -> float:
    """Processor time of this process and of its children."""
    import psutil

    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def run_here(settings: dict[str, Any], skipped: Sequence[int]) -> None:
    """Trains in this process, and prints the curve; at the skipped steps only the clock is read."""
    from unittest import mock

    import burnish
    from burnish.train.loop import Stage

    clock, evaluate, seconds = Clock(), Stage._evaluate, dict[int, float]()

    def off_clock(stage: Stage, step: int, *rest: Any) -> None:
        seconds[step] = clock.stop()
        if step not in skipped:
            evaluate(stage, step, *rest)
        clock.go_on()

    with mock.patch.object(Stage, "_evaluate", off_clock):
        done = burnish.train_stage("distill", **settings)
    lines = [line for line in done.metrics if "eval/accuracy" in line]
    figures = {name: [line[f"eval/{name}"] for line in lines if f"eval/{name}" in line] for name in FIGURES}
    print(json.dumps({"steps": list(seconds), "seconds": list(seconds.values()), **figures}))


def run_apart(settings: Mapping[str, Any], skipped: Sequence[int] = ()) -> Curve:
    """The curve of a run in a process of its own, with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        given = {**settings, "output": f"{folder}/run"}
        command = [sys.executable, __file__, "--runner", json.dumps([given, list(skipped)])]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "BURNISH_CACHE": f"{folder}/cache"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def trained(folder: Path, *command: str) -> Path:
    """The run folder, trained by this command of burnish if it is not there."""
    if not (folder / "model").exists():
        whole = [sys.executable, "-m", "burnish", *command, "--output", str(folder)]
        done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def started(folder: Path, seed: int) -> Path:
    """The student of a seed before distillation."""
    flags = ["--model", "builtin:tiny", "--data", "builtin:reasoning"]
    overrides = ["chat_template=chatml", "max_steps=200", "sequences_per_step=16", "learning_rate=0.003"]
    return trained(folder / f"start-{seed}", "sft", *flags, *overrides, f"seed={seed}")


def settings_of(method: str, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Settings of a stage, with `EVALUATIONS` evaluations after the first."""
    teacher = trained(folder / "distill-teacher", "run", "recipes/distill-teacher.yaml")
    start, every = started(folder, seed), math.ceil(steps / EVALUATIONS)
    own = {"model": str(start), "teacher": str(teacher), "seed": seed, "max_steps": steps, "eval_every": every}
    return {**SHARED, **METHODS[method], **own}


def affordable_steps(method: str, budget: float, folder: Path) -> int:
    """The number of steps of a method whose seconds are nearest to the budget."""
    first, last = CALIBRATION
    settings = {**settings_of(method, 0, last, folder), "eval_every": first}
    curve = run_apart(settings, skipped=range(last + 1))
    at = dict(zip(curve["steps"], curve["seconds"], strict=True))
    per_step = (at[last] - at[first]) / (last - first)
    steps = first + round((budget - at[first]) / per_step)
    print(f"{method}: {at[0]:.1f} s before the first step, {per_step:.3f} s a step, {steps} steps", flush=True)
    return steps


def curves_of(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Computes what is missing; `found` has seed by seed the curves of each method."""
    seeds = [str(seed) for seed in range(arguments.seeds)]
    for method in METHODS:
        curves = found["curves"].setdefault(method, {})
        if all(seed in curves for seed in seeds):
            continue
        if method == ON_POLICY:
            steps = arguments.steps
        else:
            found["budget"] = mean(curve["seconds"][-1] for curve in found["curves"][ON_POLICY].values())
            steps = affordable_steps(method, found["budget"], arguments.folder)
        for seed in seeds:
            if seed not in curves:
                settings = settings_of(method, int(seed), steps, arguments.folder)
                curve = run_apart(settings, skipped=[] if method == ON_POLICY else [0])
                if method != ON_POLICY:
                    start = found["curves"][ON_POLICY][seed]
                    curve |= {name: [start[name][0], *curve[name]] for name in FIGURES}
                curves[seed] = curve
                print(method, seed, json.dumps(curve), flush=True)
                save(found, arguments.json)


def save(found: Mapping[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def teacher_accuracy(folder: Path) -> float:
    """Share of the held-out questions that the teacher answers rightly, greedily."""
    import burnish

    rows = "builtin:reasoning-math/test"
    report = burnish.eval(folder / "distill-teacher", data=rows, match="number", max_new_tokens=56)
    return float(report.figures()["accuracy"])


def ranged(values: Sequence[float], form: str) -> str:
    """Mean, lowest and highest."""
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_table(found: Mapping[str, Any]) -> None:
    """Prints means over seeds, with the lowest and the highest."""
    print(f"\naccuracy of the teacher: {found['teacher_accuracy']:.1%}; budget: {found['budget']:.1f} s\n")
    head = ("", "steps", "processor seconds", "KL before", "after", "of the gap closed", "agreement", "accuracy before",
            "after")  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for method, curves in found["curves"].items():
        each = list(curves.values())
        first, last = ({name: [curve[name][at] for curve in each] for name in (*FIGURES, "seconds", "steps")}
                       for at in (0, -1))  # fmt: skip
        closed = [1 - after / before for before, after in zip(first["teacher_kl"], last["teacher_kl"], strict=True)]
        cells = (
            method,
            f"{last['steps'][0]}",
            ranged(last["seconds"], ".1f"),
            ranged(first["teacher_kl"], ".3f"),
            ranged(last["teacher_kl"], ".3f"),
            ranged(closed, ".0%"),
            ranged(last["teacher_agreement"], ".1%"),
            ranged(first["accuracy"], ".1%"),
            ranged(last["accuracy"], ".1%"),
        )
        print(f"| {' | '.join(cells)} |")


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Plots KL and accuracy against processor seconds: a thin line for each seed, a thick one for their mean."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    labels = ("KL divergence from the teacher, nats a token", "held-out accuracy")
    for axes, name, label in zip(panels, ("teacher_kl", "accuracy"), labels, strict=True):
        for (method, curves), color in zip(found["curves"].items(), COLORS, strict=True):
            for curve in curves.values():
                axes.plot(curve["seconds"], curve[name], color=color, alpha=0.3, linewidth=0.8)
            along, values = ([mean(at) for at in zip(*(curve[key] for curve in curves.values()), strict=True)]
                             for key in ("seconds", name))  # fmt: skip
            axes.plot(along, values, color=color, linewidth=2, marker="o", markersize=3, label=method)
        axes.set(xlabel="processor seconds", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[1].axhline(found["teacher_accuracy"], color="gray", linestyle="--", linewidth=1, label="the teacher")
    panels[1].set_ylim(0, 1)
    panels[1].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=72, help="optimizer steps of on-policy distillation")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "distill-benchmark", help="teacher and starts")
    parser.add_argument("--json", type=Path, help="file of results; what it has is not computed again")
    parser.add_argument("--picture", type=Path, help="file of the plot")
    parser.add_argument("--runner", help=argparse.SUPPRESS)  # of a run's own process
    arguments = parser.parse_args()
    if arguments.runner:
        run_here(*json.loads(arguments.runner))
        return
    known = arguments.json is not None and arguments.json.exists()
    found = json.loads(arguments.json.read_text(encoding="utf-8")) if known else {"curves": {}}
    arguments.folder = arguments.folder.resolve()
    curves_of(found, arguments)
    found.setdefault("teacher_accuracy", teacher_accuracy(arguments.folder))
    save(found, arguments.json)
    print_table(found)
    if arguments.picture:
        draw(found, arguments.picture)


if __name__ == "__main__":
    main()
