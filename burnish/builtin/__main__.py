"""``python -m burnish.builtin FOLDER``: writes all built-in data sets to a folder as JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path

from burnish.builtin.sets import SETS, SPLITS, builtin_rows, write_rows


def main(arguments: list[str]) -> int:
    """Writes FOLDER/chat-train.jsonl, FOLDER/chat-test.jsonl and so on."""
    if len(arguments) != 1:
        print("usage: python -m burnish.builtin FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name in SETS:
        for split in SPLITS:
            rows = builtin_rows(name, split)
            write_rows(folder / f"{name}-{split}.jsonl", rows)
            print(f"{folder}/{name}-{split}.jsonl: {len(rows):,} rows")
    return 0


sys.exit(main(sys.argv[1:]))
