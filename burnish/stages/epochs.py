"""What an epoch is, for people: how many rows are usable, how many steps they are, and what each source has of them.

Under `inputs` and `practice`, whose reports say it before the first step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from burnish.data.dataset import TokenizedDataset


def epoch_line(draws: int, what: str, per_step: int, usable: str = "") -> str:
    """Length of an epoch.

    Args:
        draws: usable rows, prompts or pieces of documents, at least one.
        what: which of them.
        per_step: draws of an optimizer step.
        usable: see `usable_clause`.

    Example: ``an epoch is 80 rows, 4 steps``.
    """
    steps = math.ceil(draws / per_step)
    return f"{usable}an epoch is {draws:,} {what}, {steps:,} {'step' if steps == 1 else 'steps'}"


def usable_clause(usable: int, rows: int, left_out: Sequence[str]) -> str:
    """How many rows are usable, with the reasons why others are not; empty if all are.

    Example: ``80 of 200 rows are usable (120 longer than 64 tokens are left out); ``.
    """
    if usable == rows:
        return ""
    return f"{usable:,} of {rows:,} rows are usable ({', '.join(left_out)} are left out); "


def usable_of(prepared: TokenizedDataset) -> str:
    """`usable_clause` of a set."""
    report = prepared.report
    left_out = [f"{dropped.count:,} {dropped.reason}" for dropped in report.dropped]
    left_out += [f"{report.unusable:,} that cannot be used"] if report.unusable else []
    return usable_clause(report.usable, report.rows, left_out)


def share_lines(prepared: TokenizedDataset) -> Iterator[str]:
    """What each source of a mixture has of an epoch. Example: ``sums: 80 of 200 rows are usable, 40% of an epoch``."""
    origin, usable = prepared.origin, set(prepared.picked.group_rows.tolist())
    names = [origin.source_of(row) for row in range(len(origin))]
    rows, drawn = Counter(names), Counter(names[row] for row in usable)
    for name, count in rows.items():
        yield f"{name}: {drawn[name]:,} of {count:,} rows are usable, {drawn[name] / len(usable):.0%} of an epoch"
