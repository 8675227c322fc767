"""The check of resuming: a short run is killed after its first checkpoint, and ends with the undisturbed run's bits."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, Verdict, judged
from burnish.config.text import dump_yaml
from burnish.recipe.read import read_recipe
from burnish.recipe.recipe import Recipe
from burnish.settings.stage import CheckpointSettings, GenerationEvalSettings, SupervisedSettings
from burnish.stages.open_policy import device_of
from burnish.stages.run import run

STEPS = 3
SEQUENCES = 4
"""Most of one step."""
DEADLINE = 300.0
"""Seconds for the first checkpoint of the run that is killed, beside several times those of the undisturbed one."""
_POLL = 0.002


@dataclass(frozen=True, slots=True)
class Killed:
    """How a run ended that was to be killed."""

    step: int | None
    """Steps done in its newest checkpoint when it was killed; None: it was not killed."""
    told: str = ""
    """Why not."""
    finished: bool = False
    """Whether it reached its end before that."""


def same_bits_after_a_kill(subject: Subject) -> Verdict:
    """The same short run twice, once killed by SIGKILL in a process of its own, and gone on with in this one."""
    if device_of(subject.recipe).type == "cuda" and not subject.recipe.deterministic:
        return Verdict(None, "deterministic is false, so not even two undisturbed runs give the same bits")
    subject.forget_models()
    file = subject.folder / "short.yaml"
    file.write_text(dump_yaml(_short(subject.recipe).model_dump(mode="json"), {}), encoding="utf-8")
    whole, killed = subject.folder / "whole", subject.folder / "killed"
    start = time.monotonic()
    _run(file, whole)
    expected = _digests(whole)
    shutil.rmtree(whole)  # large models leave large folders
    ended = _run_and_kill(file, killed, DEADLINE + 5 * (time.monotonic() - start))
    if ended.finished:
        return Verdict(None, "the run was done before it could be killed, which is luck: check again")
    if ended.step is None:
        return judged(False, f"the run in a process of its own {ended.told}", "look at its message; " + REPORT)
    _run(file, killed)
    same = _digests(killed) == expected
    return judged(
        same,
        f"{STEPS} steps undisturbed, and killed (SIGKILL) after step {ended.step} and gone on with: "
        + ("the same bits" if same else "other weights"),
        "going on after a kill gives another model; set deterministic=true, and keep a long run from being "
        f"interrupted: {REPORT}",
    )


def _short(recipe: Recipe) -> Recipe:
    """The recipe's first stage with a few steps, a checkpoint after each, and nothing measured or tracked."""
    first = recipe.stages[0]
    stage = first.settings
    assert isinstance(stage, SupervisedSettings), "stages that learn by trying are not tried here"
    changed = stage.model_copy(
        update={
            "max_steps": STEPS,
            "epochs": None,
            "sequences_per_step": min(stage.sequences_per_step, SEQUENCES),
            "checkpoint_every": 1,
            "eval_data": None,
            "eval_every": None,
            "early_stopping": None,
            "checkpoints": CheckpointSettings(keep_last=1),
            "evaluation": GenerationEvalSettings(),
        }
    )
    stages = (first.model_copy(update={first.method: changed}),)
    return recipe.model_copy(update={"stages": stages, "trackers": ()})  # nothing of a trial is sent anywhere


def _run(file: Path, output: Path) -> None:
    with redirect_stderr(io.StringIO()):
        run(read_recipe(file, [f"output={output}"]))


def _run_and_kill(file: Path, output: Path, deadline: float) -> Killed:
    """Runs the recipe in another process, and kills that when it has written a checkpoint; waits so many seconds."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    command = [sys.executable, "-m", "burnish", "run", str(file), "--output", str(output)]
    told = output.with_suffix(".txt")
    with told.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths})
    try:
        end = time.monotonic() + deadline
        while process.poll() is None and not _steps(output):
            if time.monotonic() > end:
                return Killed(None, f"wrote no checkpoint within {deadline:.0f} s")
            time.sleep(_POLL)
    finally:
        process.kill()
        status = process.wait()
    if status == 0:
        return Killed(None, finished=True)
    if status > 0 or not _steps(output):
        lines = told.read_text(encoding="utf-8").splitlines() or ["without a word"]
        return Killed(None, f"ended before it could be killed, with status {status}: {lines[-1].strip()}")
    return Killed(max(_steps(output)))


def _steps(output: Path) -> list[int]:
    """Of the checkpoints that are there, whole."""
    return [int(path.name.removeprefix("step-")) for path in (output / "checkpoints").glob("step-*")]


def _digests(output: Path) -> dict[str, str]:
    files = sorted((output / "model").glob("*.safetensors"))
    assert files, "a finished run has written weights"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
