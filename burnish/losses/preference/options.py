"""Contract of a preference loss's options: ranges of numbers, kinds of data.

Imports no torch. `with_reference` and `without_reference` have the records of options, `registry` their names, `build`
makes the losses. A field is an option and its annotation has the range (`Within`); an option that a loss does not use
cannot be given.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Within:
    """The range of a number; None: no such limit."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None


Positive = Annotated[float, Within(above=0)]
NotNegative = Annotated[float, Within(at_least=0)]
WrongLabels = Annotated[float, Within(at_least=0, below=0.5)]
Share = Annotated[float, Within(at_least=0, at_most=1)]
Number = Annotated[float, Within()]
DivergenceName = Literal["reverse_kl", "forward_kl", "js", "alpha"]


class DataNeeds(StrEnum):
    """Groups that a loss needs."""

    PAIR = "pair"
    """Two responses: chosen, rejected."""
    TRIPLE = "triple"
    """Three responses: gold, chosen, rejected."""
    RANKING = "ranking"
    """Two responses or more, best first."""
    SCORED = "scored"
    """Two responses or more, best first, each with its score as reward."""
    VERDICT = "verdict"
    """Responses, each with the reward 1 or 0."""
    ANY = "any"
    """One response or more, of which the first is trained."""


class Options(Protocol):
    """Options of one loss."""

    reference: ClassVar[bool]
    """Whether groups need `reference_logprobs`."""
    data: ClassVar[DataNeeds]
    measured: ClassVar[bool]
    """Whether each step needs mismatched pairs, which are only scored (`sources.mismatched_pairs`)."""
