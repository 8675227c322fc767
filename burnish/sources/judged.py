"""Groups that are judged at their end: what a reward model learns from, made of the groups that a policy learns from.

Beside `rows`. A reward model looks at one token of each response, its last: it has seen all the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from burnish.sources.rows import Settles
from burnish.types import Group, Response


def judged_at_end(group: Group) -> Group:
    """The group with one scored token for each response, the last one, of weight 1."""
    return replace(group, responses=tuple(map(_at_end, group.responses)), prompt_weights=None)


def _at_end(response: Response) -> Response:
    last = torch.zeros(len(response.tokens), dtype=torch.bool)
    last[-1] = True
    return replace(response, trainable=last, weights=None)


class JudgedRows(Sequence[Sequence[Group]]):
    """Rows, judged at their end."""

    def __init__(self, rows: Sequence[Sequence[Group]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Sequence[Group]:  # type: ignore[override]  # drawn singly
        return [judged_at_end(group) for group in self.rows[row]]

    def settle(self) -> None:
        """See `Source.settle`."""
        if isinstance(self.rows, Settles):
            self.rows.settle()
