"""`make test-gpu` says when nothing was tested, counts what was, and goes wrong where something went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_step import SMALL, Case, measured_parts, run_part
from scripts import test_gpu
from scripts.test_gpu import Counts, counted, ended_within

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "test_gpu.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_gpu, "LAST_WORDS", 0.1)


def test_without_a_device_nothing_is_tested_and_that_is_said():
    done = run(CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 3
    assert "NOTHING WAS TESTED" in done.stderr
    assert "GPU_PYTHON=" in done.stderr


def test_what_an_interpreter_lacks_is_named(monkeypatch):
    monkeypatch.setattr(test_gpu, "NEEDED", ("torch", "no_such_package", "nor_this_one"))
    assert test_gpu.why_not() == f"{sys.executable} lacks no_such_package, nor_this_one"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a device")
def test_the_reason_is_the_build_or_the_machine():
    assert test_gpu.why_not() is not None
    assert torch.__version__ in test_gpu.why_not()


def test_tests_are_counted(tmp_path):
    report = tmp_path / "tests.xml"
    assert counted(report) == Counts(passed=0, failed=1, skipped=0)
    report.write_text('<testsuites><testsuite tests="9" skipped="2" failures="1" errors="1"/></testsuites>')
    assert counted(report) == Counts(passed=5, failed=2, skipped=2)


@pytest.mark.parametrize(
    ("counts", "good"),
    [(Counts(3, 0, 1), True), (Counts(3, 1, 0), False), (Counts(0, 0, 50), False), (Counts(0, 0, 0), False)],
)
def test_only_what_passed_is_good(counts, good):
    assert counts.good is good


def test_a_part_of_the_benchmark_that_fails_is_told_and_the_others_go_on(tmp_path):
    """None has a device or a size that exists: every part is in the table with its reason."""
    parts = [Case("sft", "no such size", 60), Case("sampler", "nor this", 60)]
    results = measured_parts(parts, "cpu", seconds=120.0, output=tmp_path)
    assert [result["failed"] for result in results.values()] == ["KeyError: 'no such size'", "KeyError: 'nor this'"]
    assert "| sampler nor this | failed: KeyError" in (tmp_path / "benchmark.md").read_text()


def test_a_part_of_the_benchmark_that_has_no_time_is_told(tmp_path):
    assert run_part(Case("sft", "1M", 60), "cpu", 0.01) == {"failed": "not done within 0 s"}
    command = [sys.executable, ROOT / "benchmarks" / "gpu_step.py", "--device", "cpu", "--small", "--seconds", "0"]
    done = subprocess.run([*command, "--output", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    table = (tmp_path / "benchmark.md").read_text()
    assert all(f"| {case.name} | failed: no time was left" in table for case in SMALL)


def test_what_does_not_end_in_time_is_stopped():
    """Also if it does not listen."""
    patient = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    for code, status in (("pass", 0), (patient, -9)):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        assert ended_within(process, 5.0 if status == 0 else 0.01) is (status == 0)
        assert process.wait() == status
        process.stdout.close()


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tmp_path):
    """What `make test-gpu-dry` does."""
    done = run("--device", "cpu", OUT=str(tmp_path), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert {path.name for path in tmp_path.iterdir()} == {
        "tests.txt",
        "tests.xml",
        "tests.json",
        "benchmark.json",
        "benchmark.md",
    }
