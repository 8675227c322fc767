"""What the commands that compare with TRL take, and how a contender's own process begins."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers.cases import Case, Contender

Train = Callable[[Case, Contender, Path, Path], dict[str, Any]]
"""In this process: case, contender, model, rows → figures."""


def arguments(about: str, *, rounds: int, steps: int) -> argparse.ArgumentParser:
    """Those that all have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="the folder with data/gsm8k, hh_rlhf, math500 and mbpp")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps, help="of each process, 2 or more; the first warms up")
    parser.add_argument("--only", default="", help="cases whose names contain this, such as 15M or 100M-mixture-lora")
    parser.add_argument(
        "--best",
        action="append",
        default=[],
        help="TRL's fastest setting by an earlier search, such as 'TRL, float32, 2', in the place of a search",
    )
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # of a contender's own process
    return parser


def trained_as_contender(given: argparse.Namespace, train: Train) -> bool:
    """Whether this is a contender's own process; then it has trained, and printed its figures."""
    if not given.contender:
        return False
    case, contender, model, rows = json.loads(given.contender)
    print(json.dumps(train(Case(*case), Contender.of(contender), Path(model), Path(rows))))
    return True


def known_best(
    parser: argparse.ArgumentParser, given: argparse.Namespace, searched: Sequence[Contender]
) -> list[Contender]:
    """The settings that --best names, in the place of a search; none: it names none. Says what is missing."""
    if not given.shared or given.steps < 2:
        parser.error("--shared is needed, for the rows are real, and two steps, for the first is not measured")
    named = {each.name: each for each in searched}
    if unknown := [name for name in given.best if name not in named]:
        parser.error(f"--best {unknown[0]} is none of: {'; '.join(named)}")
    return [named[name] for name in given.best]
