"""``python -m burnish.data.worker ENTRY CLAIMS``: makes samples beside the process that started it, see `cache`."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from burnish.data.cache import load_job, work


def main(entry: str, claims: str) -> int:
    """Makes what is left to make; ends with its parent."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    work(load_job(Path(claims)), Path(entry), Path(claims))
    return 0


def _end_with(parent: int) -> None:
    """A killed parent kills nobody: without it the work has no taker, so stop."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
