"""Memory of reading a large file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROW = b'{"question": "%09d", "answer": "' + b"x" * 1000 + b'"}\n'
NUM_ROWS = 200_000

PROGRAM = """
import resource, sys
from burnish.data.read import read_rows

def peak():  # KiB on Linux, bytes on a Mac
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform == "linux" else 1024)

before = peak()
rows = read_rows(sys.argv[1])
last = len(rows) - 1
for index in (*range(0, last, 97), last):
    assert int(rows[index]["question"]) == index, index
print(len(rows), peak() - before)
"""


def _read(path: Path) -> tuple[int, int]:
    """Number of rows, and KiB of memory that reading them takes."""
    command = [sys.executable, "-c", PROGRAM, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    rows, taken = done.stdout.split()
    return int(rows), int(taken)


@pytest.mark.slow
def test_a_file_of_200_megabytes_takes_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "large.jsonl"
    with file.open("wb") as output:
        output.writelines(ROW % index for index in range(NUM_ROWS))
    assert file.stat().st_size > 200_000_000
    num_rows, taken = _read(file)
    assert num_rows == NUM_ROWS
    assert taken < 40 * 1024, f"{taken / 1024:.0f} MiB"
