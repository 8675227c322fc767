"""Error of a flawed comparison, with the kind of flaw for the rules of the preference filters."""

from __future__ import annotations

from typing import Literal

from burnish.errors import DataError

FlawKind = Literal["identical", "tie", "prompts"]
"""identical: all responses are the same. tie: none is better. prompts: the responses follow different prompts."""


class ComparisonError(DataError):
    """Row whose comparison has a flaw. Without preference filters it is an unusable row like any other."""

    def __init__(self, kind: FlawKind, given: str, rule: str, remedy: str) -> None:
        super().__init__(given, rule, remedy)
        self.kind = kind
