"""Settings of an optimizer, and the table of all optimizers: options, learning rate, memory, library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from burnish.errors import RecipeError

OptimizerName = Literal[
    "adamw",
    "adamw_8bit",
    "adamw_paged",
    "adamw_8bit_paged",
    "muon",
    "adafactor",
    "schedule_free",
    "lion",
    "lion_8bit",
    "sgd",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """Entry of an optimizer in the table."""

    options: Mapping[str, Any]
    """Options with their defaults."""
    rate: float | None
    """The usual learning rate, as a multiple of AdamW's; None: it depends on the scale of the gradients."""
    state_bytes: float
    """Bytes of state per float32 weight of a large matrix, without allocator rounding and small tensors."""
    library: str
    """The package that has it."""
    purpose: str
    """Its purpose, with its paper."""


_ADAMW: Mapping[str, Any] = MappingProxyType({"betas": (0.9, 0.999), "eps": 1e-8})
_LION: Mapping[str, Any] = MappingProxyType({"betas": (0.9, 0.99)})

KINDS: Mapping[OptimizerName, Kind] = MappingProxyType(
    {
        "adamw": Kind(_ADAMW, 1.0, 8.0, "torch", "the default (arXiv 1711.05101)"),
        "adamw_8bit": Kind(
            _ADAMW,
            1.0,
            2.03,
            "bitsandbytes",
            "a quarter of AdamW's state, quantized in blocks of 256 (arXiv 2110.02861)",
        ),
        "adamw_paged": Kind(
            _ADAMW, 1.0, 8.0, "bitsandbytes", "CUDA only: the state can move to main memory (arXiv 2305.14314)"
        ),
        "adamw_8bit_paged": Kind(_ADAMW, 1.0, 2.03, "bitsandbytes", "CUDA only: 8-bit and paged"),
        "muon": Kind(
            MappingProxyType({"momentum": 0.95, "nesterov": True, **_ADAMW}),
            1.0,
            4.0,
            "torch",
            "orthogonal updates of the matrices between embedding and head, scaled to AdamW's size "
            "(arXiv 2502.16982); betas and eps are those of AdamW, which updates the rest (8 bytes)",
        ),
        "adafactor": Kind(
            MappingProxyType({"beta2_decay": -0.8}),
            50.0,
            0.0,
            "torch",
            "almost no state: squares by rows and columns; the rate is relative to a weight's size (arXiv 1804.04235)",
        ),
        "schedule_free": Kind(
            _ADAMW,
            1.0,
            8.0,
            "schedulefree",
            "AdamW that averages weights in place of a decaying rate, so that the length of the run may be open "
            "(arXiv 2405.15682)",
        ),
        "lion": Kind(_LION, 0.2, 4.0, "bitsandbytes", "the sign of a momentum: one state (arXiv 2302.06675)"),
        "lion_8bit": Kind(_LION, 0.2, 1.02, "bitsandbytes", "Lion with a quantized state"),
        "sgd": Kind(
            MappingProxyType({"momentum": 0.9, "nesterov": False}),
            None,
            4.0,
            "torch",
            "for comparison; 0 bytes with momentum: 0, and no default rate",
        ),
    }
)
"""All optimizers. Rates: Lion's is three to ten times smaller than AdamW's (section 5 of its paper), Adafactor's 1e-3
in fine-tuning (arXiv 1910.10683, section 3.1.2)."""
assert set(KINDS) == set(get_args(OptimizerName)), "every name has an entry"

PAGED: tuple[OptimizerName, ...] = ("adamw_paged", "adamw_8bit_paged")
"""Optimizers whose states may move to main memory."""
OPTIONS = ("betas", "eps", "momentum", "nesterov", "beta2_decay")
"""All options of all optimizers."""


def unused_options(name: OptimizerName, given: Mapping[str, object]) -> list[str]:
    """Given options (None: not given) that the optimizer does not have."""
    return [option for option in OPTIONS if given.get(option) is not None and option not in KINDS[name].options]


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """Settings of an optimizer. An option that is None has the optimizer's default."""

    kind: OptimizerName = "adamw"
    """One of KINDS."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled decay of matrices, times the learning rate; vectors (norms, biases) never decay."""
    betas: tuple[float, float] | None = None
    """Decay rates of the averages of gradients and their squares; of Lion, inside and outside its sign."""
    eps: float | None = None
    """Added to the denominator."""
    momentum: float | None = None
    """Decay rate of the average of gradients."""
    nesterov: bool | None = None
    """Nesterov's form of the momentum."""
    beta2_decay: float | None = None
    """Adafactor's exponent: squares are averaged with 1 - step^beta2_decay."""
    stochastic_rounding: bool = False
    """Whether bfloat16 weights are updated without float32 masters, with stochastic rounding."""
    seed: int = 0
    """Seed of stochastic rounding."""
    ema_decay: float | None = None
    """Decay of the exponential moving average of the weights, which is then evaluated and saved; None: no average."""

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        if unused := unused_options(self.kind, given):
            raise RecipeError(
                given=f"optimizer.{unused[0]} with optimizer.kind: {self.kind}",
                rule=f"{self.kind} has {', '.join(KINDS[self.kind].options)}",
                remedy=f"leave optimizer.{unused[0]} out, or name an optimizer that has it",
            )
        if self.kind == "schedule_free" and (self.ema_decay is not None or self.stochastic_rounding):
            raise RecipeError(
                given="optimizer.kind: schedule_free with optimizer."
                + ("stochastic_rounding" if self.stochastic_rounding else "ema_decay"),
                rule="schedule_free averages the weights itself, over float32 weights",
                remedy="leave one of the two out",
            )

    @property
    def options(self) -> dict[str, Any]:
        """All options of the optimizer, as given or its defaults."""
        defaults = KINDS[self.kind].options
        given = {name: getattr(self, name) for name in defaults}
        return {name: defaults[name] if value is None else value for name, value in given.items()}
