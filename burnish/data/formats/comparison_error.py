"""A comparison that says nothing: what is wrong with it has a name, by which the gate's rules speak of it."""

from __future__ import annotations

from typing import Literal

from burnish.errors import DataError

FlawKind = Literal["identical", "tie", "prompts"]
"""identical: all answers are the same. tie: none is better than another. prompts: they answer different prompts."""


class ComparisonError(DataError):
    """See the module. Where no gate is asked, it is a row that cannot be used like any other."""

    def __init__(self, kind: FlawKind, given: str, rule: str, remedy: str) -> None:
        super().__init__(given, rule, remedy)
        self.kind = kind
