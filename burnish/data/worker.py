"""``python -m burnish.data.worker NICE JOB``: makes all samples of a job beside a training, see `cache.make_beside`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from burnish.data.cache import work_on_all
from burnish.data.processes import end_with


def main(nice: str, job: str) -> None:
    """Ends with its parent."""
    os.nice(int(nice))
    end_with(os.getppid())
    work_on_all(Path(job))


if __name__ == "__main__":
    main(*sys.argv[1:])
