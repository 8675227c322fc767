"""Data file larger than memory: time and memory of opening it, of training on it and of tokenizing it.

``python benchmarks/large_file.py [GB] [--prepare]`` generates a JSONL file of conversations of that size
(default 5) and measures, each in a process of its own with an empty cache:

- opening it with `read_rows` and reading 1 000 random rows;
- `burnish sft` on all rows until its third step: seconds, and memory of the process;
- with ``--prepare``, `DatasetSpec.whole`, which tokenizes every row: seconds and the largest memory of a process.

Memory is the largest resident set; pages of mapped files, which the system may take back at any time, count in it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_speed import TEMPLATE
from first_step import save_small_model
from transformers import AutoTokenizer

from burnish.data.dataset import DatasetSpec
from burnish.data.read import read_rows
from burnish.data.template import Template

DIFFERENT = 20_000
"""Different rows; the file repeats them with other numbers."""


def write_file(path: Path, size: int) -> int:
    draw = random.Random("large file")
    words = ["".join(draw.choices("etaoinshrdlucmfwyp", k=draw.randint(2, 9))) for _ in range(20_000)]
    weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(words))))

    def sentence(low: int, high: int) -> str:
        return " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(low, high)))

    rows = [
        json.dumps([{"role": "user", "content": sentence(5, 40)}, {"role": "assistant", "content": sentence(20, 200)}])
        for _ in range(DIFFERENT)
    ]
    count = written = 0
    with path.open("w", encoding="ascii") as file:
        while written < size:
            written += file.write(f'{{"id": {count}, "messages": {rows[count % DIFFERENT]}}}\n')
            count += 1
    return count


def open_it(path: str) -> None:
    rows = read_rows(path)
    draw = random.Random(0)
    for _ in range(1000):
        index = draw.randrange(len(rows))
        assert rows[index]["id"] == index


def prepare_it(path: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(Path(path).parent / "model")
    prepared = DatasetSpec.of(read_rows(path), tokenizer, Template(TEMPLATE), max_length=4096).whole()
    print(f"{'':40} {prepared.report.tokens:,} tokens of {len(prepared):,} rows")


def measured(name: str, command: list[str], environment: dict[str, str]) -> None:
    """Runs a process and prints its seconds, and the largest memory of it and of its children."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **environment})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    assert os.waitstatus_to_exitcode(status) == 0, f"{name} failed"
    print(f"{name:40} {seconds:8.1f} s {usage.ru_maxrss / 1024:8,.0f} MiB", flush=True)


def train(folder: Path, path: Path, rows: int) -> None:
    """Until the third step of a run over all rows."""
    command = [sys.executable, "-m", "burnish", "sft", "--model", str(folder / "model"), "--data", str(path)]
    command += ["--output", str(folder / "run"), f"--max-steps={rows}", "log_every=1", "checkpoint_every=1000000"]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, "BURNISH_CACHE": str(folder / "empty")}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 3/"):
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = next(int(text.split()[1]) for text in status.splitlines() if text.startswith("VmHWM"))
            print(
                f"{'burnish sft until its third step':40} {time.perf_counter() - start:8.1f} s {peak / 1024:8,.0f} MiB"
            )
            break
    else:
        raise AssertionError("burnish sft ended before its third step")
    process.kill()
    process.wait()


def main(gigabytes: float, *, prepare: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "rows.jsonl"
        rows = write_file(path, int(gigabytes * 1e9))
        print(f"{path.stat().st_size / 1e9:.2f} GB, {rows:,} rows", flush=True)
        save_small_model(folder / "model", path)
        this_script = [sys.executable, __file__]
        measured("imports alone", [*this_script, "nothing"], {})
        measured("opening, and 1 000 rows", [*this_script, "open", str(path)], {})
        train(folder, path, rows)
        if prepare:
            measured(
                "all rows made into tokens",
                [*this_script, "prepare", str(path)],
                {"BURNISH_CACHE": str(folder / "cache")},
            )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{'largest of all processes':40} {'':10} {peak / 1024:8,.0f} MiB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["nothing"]:
        pass
    elif sys.argv[1:2] == ["open"]:
        open_it(sys.argv[2])
    elif sys.argv[1:2] == ["prepare"]:
        prepare_it(sys.argv[2])
    else:
        sizes = [float(argument) for argument in sys.argv[1:] if argument != "--prepare"]
        main(sizes[0] if sizes else 5.0, prepare="--prepare" in sys.argv)
