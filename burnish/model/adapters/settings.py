"""Settings of an adapter. Between the recipe and `add`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from burnish.model.adapters.kinds import AdapterKind

Init = Literal["zero", "gaussian", "pissa", "olora"]


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """Settings of an adapter of any kind; options that a kind does not have keep their defaults. Example:
    ``AdapterSettings(rank=8)``.

    LoRA (arXiv 2106.09685) computes W x + s · B A x with W frozen, A [rank, in] and B [out, rank] trained.
    """

    kind: AdapterKind = "lora"
    rank: int = 16
    alpha: float = 32.0
    """LoRA's s is alpha / rank."""
    dropout: float = 0.0
    """On the adapter's input. With dropout a step depends on the split into microbatches."""
    targets: str | tuple[str, ...] = "all-linear"
    """The adapted layers: all-linear (without the head), attention, mlp; any other text is a regular expression that is
    found in their names; a tuple has the last parts of their names."""
    layers: tuple[int, ...] | None = None
    """Numbers of the adapted decoder layers, from 0; None: all."""
    frozen: tuple[str, ...] = ()
    """Patterns of layers that a group of targets leaves out, see `vision_parts`."""
    modules_to_save: tuple[str, ...] = ()
    """Last parts of names of modules that train whole and are saved with the adapter (embedding, head, norms)."""
    target_experts: bool = False
    """Whether LoRA also adapts the tensors in which all experts of a layer are stored."""
    rslora: bool = False
    """s is alpha / √rank (arXiv 2312.03732, eq. 2)."""
    dora: bool = False
    """Trains the norm of each row of the weights separately: m · (W + s·BA) / |W + s·BA| (arXiv 2402.09353, eq. 5)."""
    init: Init = "zero"
    """Initialization of A and B. zero: B is 0, A uniform. gaussian: B is 0, A normal. pissa, olora: see `initial`."""
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Pattern of layer names → rank of these layers."""
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Pattern of layer names → alpha of these layers."""
    block_size: int = 8
    """Block size of the rotations of OFT and RoAd."""
