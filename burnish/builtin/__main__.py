"""``python -m burnish.builtin FOLDER``: writes an untrained model, training rows and held-out rows there."""

from __future__ import annotations

import sys
from pathlib import Path

from burnish.builtin import generate, write_rows, write_untrained


def main(arguments: list[str]) -> int:
    """Writes FOLDER/model, FOLDER/train.jsonl and FOLDER/test.jsonl."""
    if len(arguments) != 1:
        print("usage: python -m burnish.builtin FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    write_untrained(folder / "model")
    write_rows(folder / "train.jsonl", generate(seed=1, count=6000))
    write_rows(folder / "test.jsonl", generate(seed=2, count=300))
    print(f"wrote {folder}/model, {folder}/train.jsonl and {folder}/test.jsonl")
    return 0


sys.exit(main(sys.argv[1:]))
