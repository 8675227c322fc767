"""The tests of `on_pretended.py`, in a process of their own: its torch meets a pretended CUDA device when it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
START = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)  # before torch, which asks for its devices once
ctypes.CDLL(sys.argv[2], mode=ctypes.RTLD_GLOBAL)
import pytest
sys.exit(pytest.main(sys.argv[3:]))
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The pretended device, compiled against this torch."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine: the pretended device cannot be compiled")
    if torch.backends.cuda.is_built():
        pytest.skip("this torch has CUDA itself: tests/gpu tells more")
    torch_folder = Path(torch.__file__).parent
    output, libraries = tmp_path / "pretended_cuda.so", torch_folder / "lib"
    command = [compiler, "-shared", "-fPIC", "-std=c++20", f"-I{torch_folder / 'include'}", HERE / "pretended_cuda.cpp"]
    linked = [f"-L{libraries}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{libraries}"]
    subprocess.run([*command, *linked, "-o", output], check=True)
    return output


def test_training_and_sampling_stay_on_the_device(library: Path) -> None:
    """No tensor on the wrong device, nothing that waits for the device, nothing that a deterministic run refuses."""
    first = Path(torch.__file__).parent / "lib" / "libtorch_global_deps.so"
    arguments = ["-q", "-p", "no:cacheprovider", "-n", "0", HERE / "on_pretended.py"]
    done = subprocess.run(
        [sys.executable, "-c", START, first, library, *arguments],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
