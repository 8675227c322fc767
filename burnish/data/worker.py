"""What a process beside this one runs, see `cache`: ``python -m burnish.data.worker NICE ENTRY CLAIMS`` makes what is
left to make of an entry, ``python -m burnish.data.worker NICE --all JOB`` all of it. It ends with its parent."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from burnish.data.cache import work_on, work_on_all


def main(nice: str, first: str, second: str) -> None:
    os.nice(int(nice))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if first == "--all":
        work_on_all(Path(second))
    else:
        work_on(Path(first), Path(second))


def _end_with(parent: int) -> None:
    """A killed parent kills nobody: without it the work has no taker, so stop."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
