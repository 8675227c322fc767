"""Trials in a process of another user: reads numbers of attacks as lines, writes what was seen as lines of JSON."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict

from burnish.errors import UserError
from burnish.sandbox.base import Level
from tests.sandbox.attacks import ATTACKS
from tests.sandbox.attacks.trial import Trials


def main(level: Level) -> None:
    """Serves until its input ends."""
    try:
        trials = Trials(level).__enter__()
    except UserError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        return
    print(json.dumps({"ready": level.label}), flush=True)
    for line in sys.stdin:
        try:
            answer = asdict(trials.attack(ATTACKS[int(line)]))
        except Exception:  # noqa: BLE001 (the trials of the others go on)
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
    trials.__exit__()


if __name__ == "__main__":
    main(Level.named(sys.argv[1]))
