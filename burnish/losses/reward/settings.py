"""Options of the losses of reward models, by name. Imports no torch; `registry` has the losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Options of a loss without options."""


@dataclass(frozen=True, slots=True)
class BradleyTerryOptions:
    """Options of Bradley–Terry."""

    margin: float = 0.0
    """μ >= 0, reward per unit of the data's scores; 0: no margins."""
    center_coef: float = 0.0
    """c >= 0; 0: rewards are determined up to a constant."""


OPTIONS: Mapping[str, type[NoOptions | BradleyTerryOptions]] = {
    "bradley_terry": BradleyTerryOptions,
    "plackett_luce": NoOptions,
    "regression": NoOptions,
    "step_cross_entropy": NoOptions,
    "step_regression": NoOptions,
}
"""Name → class of its options."""


def defaults(name: str) -> dict[str, float]:
    """The options of a loss, with their defaults."""
    return asdict(OPTIONS[name]())
