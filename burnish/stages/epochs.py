"""Log lines about the length of an epoch: usable rows, steps, and the share of each source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from burnish.data.dataset import TokenizedDataset


def epoch_line(draws: int, what: str, per_step: int, usable: str = "", steps: int | None = None) -> str:
    """Line with the length of an epoch.

    Args:
        draws: usable rows, prompts or pieces of documents, at least one.
        what: their noun.
        per_step: number of draws per optimizer step.
        usable: see `usable_clause`.
        steps: number of steps; None: as many as draws fill.

    Example: ``an epoch is 80 rows, 4 steps``.
    """
    steps = math.ceil(draws / per_step) if steps is None else steps
    return f"{usable}an epoch is {draws:,} {what}, {steps:,} {'step' if steps == 1 else 'steps'}"


def usable_clause(usable: int, rows: int, left_out: Sequence[str]) -> str:
    """Clause with the number of usable rows, and the reasons why others are not usable; empty if all are.

    Example: ``80 of 200 rows are usable (120 longer than 64 tokens are left out); ``.
    """
    if usable == rows:
        return ""
    return f"{usable:,} of {rows:,} rows are usable ({', '.join(left_out)} are left out); "


def usable_of(prepared: TokenizedDataset) -> str:
    """`usable_clause` of a dataset."""
    report = prepared.report
    left_out = [f"{dropped.count:,} {dropped.reason}" for dropped in report.dropped]
    left_out += [f"{report.unusable:,} invalid"] if report.unusable else []
    return usable_clause(report.usable, report.rows, left_out)


def share_lines(prepared: TokenizedDataset) -> Iterator[str]:
    """Lines with each source's share of an epoch. Example: ``sums: 80 of 200 rows are usable, 40% of an epoch``."""
    origin, usable = prepared.origin, set(prepared.picked.group_rows.tolist())
    names = [origin.source_of(row) for row in range(len(origin))]
    rows, drawn = Counter(names), Counter(names[row] for row in usable)
    for name, count in rows.items():
        yield f"{name}: {drawn[name]:,} of {count:,} rows are usable, {drawn[name] / len(usable):.0%} of an epoch"
