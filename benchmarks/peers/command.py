"""Arguments of the commands that compare with TRL, and the entry of a contender's own process."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers.cases import Case, Contender

Train = Callable[[Case, Contender, Path, Path], dict[str, Any]]
"""Trains in this process: case, contender, model, rows → measurements."""


def arguments(about: str, *, rounds: int, steps: int) -> argparse.ArgumentParser:
    """Parser with the common arguments."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="the folder with data/gsm8k, hh_rlhf, math500 and mbpp")
    parser.add_argument("--json", type=Path, help="file of results")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps, help="of each process, 2 or more; the first warms up")
    parser.add_argument("--only", default="", help="cases whose names contain this, such as 15M or 100M-mixture-lora")
    parser.add_argument(
        "--best",
        action="append",
        default=[],
        help="TRL's fastest setting from an earlier search, such as 'TRL, float32, 2', instead of a search",
    )
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # of a contender's own process
    return parser


def trained_as_contender(options: argparse.Namespace, train: Train) -> bool:
    """Trains and prints the measurements if this is a contender's own process; returns whether it is."""
    if not options.contender:
        return False
    case, contender, model, rows = json.loads(options.contender)
    print(json.dumps(train(Case(*case), Contender.of(contender), Path(model), Path(rows))))
    return True


def known_best(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    searched: Sequence[Contender],
    *,
    from_shared: bool = True,
) -> list[Contender]:
    """Settings that --best names, instead of a search. Exits with a message if an argument is missing. `from_shared`:
    the rows are those of the shared folder."""
    if (from_shared and not options.shared) or options.steps < 2:
        parser.error("--shared is needed, since the rows are real, and two steps, since the first is not measured")
    named = {contender.name: contender for contender in searched}
    if unknown := [name for name in options.best if name not in named]:
        parser.error(f"--best {unknown[0]} is none of: {'; '.join(named)}")
    return [named[name] for name in options.best]
