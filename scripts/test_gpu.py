"""The tests and the benchmark of a GPU, in one go: no network, at most eight minutes.

    make test-gpu                          with the environment of `make install-dev`
    make test-gpu GPU_PYTHON=python3       with another interpreter, whose torch has CUDA
    make test-gpu-dry                      the same on a CPU, as far as one can show it

Writes into the folder that OUT names, else runs/gpu: ``tests.txt``, ``tests.xml``, ``tests.json`` (figures that tests
measured), ``benchmark.json`` and ``benchmark.md``. Status 0: all passed. 1: a test failed, or a part of the benchmark.
3: nothing was tested, since there is no CUDA device, or packages are missing.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
NEEDED = ("torch", "transformers", "peft", "datasets", "safetensors", "pydantic", "typer", "rich", "yaml", "jinja2")
NEEDED += ("numpy", "pyarrow", "zstandard", "pytest", "hypothesis")
SECONDS = 470.0
"""For everything."""
TEST_SECONDS = 280.0
"""For the tests; what they leave is the benchmark's."""
LAST_WORDS = 10.0
"""For tests that are interrupted to write their report."""
NOTHING_TESTED = 3


@dataclass(frozen=True, slots=True)
class Counts:
    """Tests by what became of them."""

    passed: int
    failed: int
    skipped: int

    @property
    def good(self) -> bool:
        """Something passed, and nothing failed. (If everything was skipped, nothing was tested.)"""
        return self.passed > 0 and self.failed == 0


def missing() -> list[str]:
    """Packages that this interpreter lacks."""
    return [name for name in NEEDED if find_spec(name) is None]


def why_not() -> str | None:
    """Why nothing can be tested on CUDA with this interpreter; None: it can be."""
    if lacking := missing():
        return f"{sys.executable} lacks {', '.join(lacking)}"
    import torch

    if torch.cuda.is_available():
        return None
    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} of {sys.executable} was built without CUDA"
    return f"torch {torch.__version__} of {sys.executable} sees no CUDA device"


def counted(report: Path) -> Counts:
    """From pytest's XML; without one, the tests did not come to their end."""
    if not report.is_file():
        return Counts(passed=0, failed=1, skipped=0)
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, skipped, *failures = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "skipped", "failures", "errors")
    )
    return Counts(passed=total - skipped - sum(failures), failed=sum(failures), skipped=skipped)


def run_tests(output: Path, device: str, seconds: float) -> Counts:
    """Runs tests/gpu; what they print is shown, and kept."""
    report = output / "tests.xml"
    report.unlink(missing_ok=True)
    places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": places}
    environment |= {"BURNISH_GPU_TESTS_ON": device, "BURNISH_GPU_FIGURES": str(output / "tests.json")}
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--durations=15", f"--junitxml={report}", "tests/gpu"]
    with (output / "tests.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        in_time = ended_within(process, seconds)
    print((output / "tests.txt").read_text(encoding="utf-8"), flush=True)
    counts = counted(report)
    if in_time:
        return counts
    print(f"the tests were not done within {seconds:.0f} s, which counts as a failure", flush=True)
    return replace(counts, failed=counts.failed + 1)


def ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a process ended by itself; otherwise it is interrupted, so that it can write what it has, and killed."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    else:
        return True
    try:
        process.wait(timeout=LAST_WORDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return False


def run_benchmark(output: Path, device: str, seconds: float) -> bool:
    """Whether every part was measured; what it prints is shown."""
    options = ["--device", "cpu", "--small"] if device == "cpu" else []
    command = [sys.executable, "benchmarks/gpu_step.py", "--output", output, f"--seconds={seconds}", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a trial of all this without one"
    )
    device = parser.parse_args(arguments).device
    reason = why_not() if device == "cuda" else None
    if reason is not None:
        print(f"NOTHING WAS TESTED: {reason}.", file=sys.stderr)
        print("Name an interpreter whose torch has CUDA: make test-gpu GPU_PYTHON=/path/to/python", file=sys.stderr)
        return NOTHING_TESTED
    output = Path(os.environ.get("OUT") or ROOT / "runs" / "gpu").resolve()
    output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    seconds = 10 * SECONDS if device == "cpu" else SECONDS
    tests = run_tests(output, device, TEST_SECONDS * seconds / SECONDS)
    measured = run_benchmark(output, device, seconds - (time.monotonic() - began))
    print(f"\ntests on {device}: {tests.passed} passed, {tests.failed} failed, {tests.skipped} skipped")
    print(f"benchmark: {'every part was measured' if measured else 'a part failed, see above'}")
    print(f"{time.monotonic() - began:.0f} s; figures are in {output}")
    return 0 if tests.good and measured else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
