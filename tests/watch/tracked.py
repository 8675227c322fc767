"""A run that is tracked, killed, and resumed: a process with two forked children, for `test_trackers`.

``python tracked.py FOLDER TRACKER...``: the first child shows its trackers ten lines and is killed; the second goes on
after the checkpoint of step 4 and comes to the end. Forking spares the seconds of importing torch.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from burnish.watch.journal_lines import MetricsLine
from burnish.watch.tracking import Tracking

KEPT, KILLED, LAST = 4, 9, 12
"""The step of the checkpoint, the step of the kill, and the last one."""


def line(step: int) -> MetricsLine:
    """What metrics.jsonl has of a step; the same in both processes, since resume is exact."""
    return MetricsLine("sft", step, {"train/loss": 0.5**step})


def main(folder: Path, names: list[str]) -> None:
    tracking = Tracking(names, project="polish", run_name="brass", config={"model": "tiny", "stages": [{"sft": {}}]})
    before = [MetricsLine("sft", 0, {"eval/loss": 2.0}), *(line(step) for step in range(1, KEPT + 1))]
    evaluation = MetricsLine("sft", LAST, {"eval/loss": 0.5})
    if os.fork() == 0:
        trackers = tracking.open(folder, "sft", 0, [])
        trackers.write(before)
        for step in range(KEPT + 1, KILLED + 1):
            trackers.write([line(step)])
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.wait()[1] == signal.SIGKILL, "the first child ends by the kill"
    if os.fork() == 0:
        trackers = tracking.open(folder, "sft", KEPT, before)
        trackers.write([line(step) for step in range(KEPT + 1, LAST)])
        trackers.write([line(LAST), evaluation])
        trackers.close(failed=False)
        os._exit(0)
    assert os.wait()[1] == 0, "the second child comes to its end"


main(Path(sys.argv[1]), sys.argv[2:])
