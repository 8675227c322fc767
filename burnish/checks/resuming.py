"""Check of resuming: a short run that is killed after its first checkpoint and resumed ends with the same weights."""

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
from burnish.checks.verdict import REPORT, CheckResult, checked
from burnish.recipe.read import ResolvedRecipe, read_recipe
from burnish.recipe.recipe import Recipe
from burnish.run_files import MODEL
from burnish.settings.stage import CheckpointSettings, GenerationEvalSettings, SupervisedSettings
from burnish.stages.models import device_of
from burnish.stages.run import run

STEPS = 3
SEQUENCES = 4
"""Limit of the sequences of a step."""
DEADLINE = 300.0
"""Seconds for the first checkpoint of the run that is killed, plus five times the duration of the undisturbed run."""
_POLL = 0.002


@dataclass(frozen=True, slots=True)
class Killed:
    """Result of running and killing a process."""

    step: int | None
    """Steps of the newest checkpoint when it was killed; None: it was not killed."""
    reason: str = ""
    """Why it was not killed."""
    finished: bool = False
    """Whether it finished before it could be killed."""


def same_bits_after_a_kill(subject: Subject) -> CheckResult:
    """A short run has the same weights undisturbed, and killed (SIGKILL) in a process and resumed in this one."""
    if device_of(subject.recipe).type == "cuda" and not subject.recipe.deterministic:
        return CheckResult(None, "deterministic is false, so even two undisturbed runs differ")
    subject.forget_models()
    recipe_file = subject.folder / "short.yaml"
    recipe_file.write_text(ResolvedRecipe(_short(subject.recipe), {}).text({}), encoding="utf-8")
    whole, killed = subject.folder / "whole", subject.folder / "killed"
    start = time.monotonic()
    _run(recipe_file, whole)
    expected = _digests(whole)
    shutil.rmtree(whole)  # large models leave large folders
    outcome = _run_and_kill(recipe_file, killed, DEADLINE + 5 * (time.monotonic() - start))
    if outcome.finished:
        return CheckResult(None, "the run finished before it could be killed: check again")
    if outcome.step is None:
        return checked(False, f"the run in another process {outcome.reason}", "read its message; " + REPORT)
    _run(recipe_file, killed)
    same = _digests(killed) == expected
    return checked(
        same,
        f"{STEPS} steps undisturbed, and killed (SIGKILL) after step {outcome.step} and resumed: "
        + ("the same weights bit for bit" if same else "other weights"),
        "resuming after a kill gives another model; set deterministic=true, and avoid interruptions of a long run: "
        f"{REPORT}",
    )


def _short(recipe: Recipe) -> Recipe:
    """Recipe of the first stage with a few steps, a checkpoint after each, and no evaluation or tracking."""
    first = recipe.stages[0]
    stage = first.settings
    assert isinstance(stage, SupervisedSettings), "only stages whose rows have responses are checked here"
    changed = stage.model_copy(
        update={
            "max_steps": STEPS,
            "epochs": None,
            "sequences_per_step": min(stage.sequences_per_step, SEQUENCES),
            "checkpoint_every": 1,
            "eval_data": None,
            "eval_share": None,
            "eval_every": None,
            "early_stopping": None,
            "checkpoints": CheckpointSettings(keep_last=1),
            "evaluation": GenerationEvalSettings(),
        }
    )
    stages = (first.model_copy(update={first.method: changed}),)
    return recipe.model_copy(update={"stages": stages, "trackers": ()})  # a check sends nothing to trackers


def _run(file: Path, output: Path) -> None:
    with redirect_stderr(io.StringIO()):
        run(read_recipe(file, [f"output={output}"]))


def _run_and_kill(file: Path, output: Path, deadline: float) -> Killed:
    """Runs the recipe in another process and kills it after its first checkpoint; waits `deadline` seconds."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    command = [sys.executable, "-m", "burnish", "run", str(file), "--output", str(output)]
    log_file = output.with_suffix(".txt")
    with log_file.open("w", encoding="utf-8") as log:
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
        lines = log_file.read_text(encoding="utf-8").splitlines() or ["without a message"]
        return Killed(None, f"ended before it could be killed, with status {status}: {lines[-1].strip()}")
    return Killed(max(_steps(output)))


def _steps(output: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    return [int(path.name.removeprefix("step-")) for path in (output / "checkpoints").glob("step-*")]


def _digests(output: Path) -> dict[str, str]:
    files = sorted((output / MODEL).glob("*.safetensors"))
    assert files, "a finished run has saved weights"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
