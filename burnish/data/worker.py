"""``python -m burnish.data.worker NICE PARENT JOB``: builds all samples of a job, see `cache.build_in_background`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from burnish.data.cache import build_all
from burnish.data.processes import end_with


def main(nice: str, parent: str, job: str) -> None:
    """Builds the samples; exits when the parent process is gone, also if it was gone during the imports."""
    os.nice(int(nice))
    end_with(int(parent))
    build_all(Path(job))


if __name__ == "__main__":
    main(*sys.argv[1:])
