"""``python -m burnish.data.worker NICE PARENT JOB``: makes all samples of a job, see `cache.make_beside`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from burnish.data.cache import work_on_all
from burnish.data.processes import end_with


def main(nice: str, parent: str, job: str) -> None:
    """Ends with the process that started it, also if that ended while this one was still importing."""
    os.nice(int(nice))
    end_with(int(parent))
    work_on_all(Path(job))


if __name__ == "__main__":
    main(*sys.argv[1:])
