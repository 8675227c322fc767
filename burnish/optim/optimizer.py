"""Optimisers from libraries, over float32 masters where the weights are narrower.

Stands beside `step`. The optimisers are torch's and bitsandbytes'; ours are only the choice of parameters for each and
the masters: bfloat16 weights have 8 bits of mantissa, so an update below 1/256 of a weight would be lost in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from burnish.errors import RecipeError
from burnish.optim.masters import Masters

FACTOR = "factor"
"""In a library's group: what its parameters multiply the learning rate by."""
OptimizerName = Literal["adamw", "adamw_8bit", "muon"]


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """What an optimiser is built from."""

    name: OptimizerName = "adamw"
    """adamw: torch's, fused (arXiv 1711.05101). adamw_8bit: bitsandbytes' (arXiv 2110.02861). muon: torch's, for the
    matrices between embedding and head, its update scaled to AdamW's size (arXiv 2502.16982); AdamW for the rest."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled decay of matrices; vectors (norms, biases) never decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's averaging of gradients and their squares."""
    eps: float = 1e-8
    """AdamW's addition to the denominator."""


class Optimizer:
    """One role's optimiser: its masters, its libraries' optimisers, and clipping."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        settings: OptimizerSettings,
        embedding_like: Iterable[nn.Parameter] = (),
        factors: Mapping[str, float] | None = None,
    ) -> None:
        """
        Args:
            named_parameters: the trained parameters.
            settings: which optimiser, and how.
            embedding_like: embedding and head, which Muon leaves to AdamW.
            factors: of the learning rate, by the name of a trained parameter (see `rates`); a name that is not in it
                has the factor 1. None: all have.
        """
        named = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.masters = Masters(parameter for _, parameter in named)
        self.settings = settings
        outside = {id(parameter) for parameter in embedding_like}
        inner = [p.ndim == 2 and id(p) not in outside for p in self.masters.parameters]
        members = [
            _Member(master, is_inner, (factors or {}).get(name, 1.0))
            for name, master, is_inner in zip(self.names, self.masters.masters, inner, strict=True)
        ]
        self.libraries = _build(members, settings)

    def step(self, factor: float, clip: float | None) -> Tensor:
        """One update at `factor` times the learning rate. Gradients are cleared.

        Returns:
            The norm of all gradients before clipping, a scalar tensor on the device (reading it would wait for it).
        """
        parameters = [p for p in self.masters.masters if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        for library in self.libraries:
            for group in library.param_groups:
                group["lr"] = factor * self.settings.learning_rate * group[FACTOR]
            library.step()
            library.zero_grad(set_to_none=True)
        self.masters.publish()
        return norm


@dataclass(frozen=True, eq=False, slots=True)
class _Member:
    """A parameter as the optimiser sees it."""

    master: nn.Parameter
    is_inner: bool
    """A matrix between embedding and head."""
    factor: float
    """Of the learning rate."""


def _build(members: list[_Member], settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    if settings.name != "muon":
        return [_adamw(members, settings)]
    inner = [member for member in members if member.is_inner]
    rest = [member for member in members if not member.is_inner]
    muon = torch.optim.Muon(_groups(inner, settings), lr=settings.learning_rate, adjust_lr_fn="match_rms_adamw")
    return [muon, _adamw(rest, settings)] if rest else [muon]


def _groups(members: list[_Member], settings: OptimizerSettings) -> list[dict[str, object]]:
    """The groups of parameters that a library gets: matrices before vectors, each by its factor."""
    kinds = sorted({(member.master.ndim < 2, member.factor) for member in members})
    return [
        {
            "params": [m.master for m in members if (m.master.ndim < 2, m.factor) == (is_vector, factor)],
            "weight_decay": 0.0 if is_vector else settings.weight_decay,
            FACTOR: factor,
        }
        for is_vector, factor in kinds
    ]


def _adamw(members: list[_Member], settings: OptimizerSettings) -> torch.optim.Optimizer:
    groups = _groups(members, settings)
    if settings.name == "adamw_8bit":
        return _adamw_8bit(groups, settings)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, fused=True)


def _adamw_8bit(groups: list[dict[str, object]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit  # an optional extra
    except ImportError as error:
        raise RecipeError(
            given="optimizer: adamw_8bit",
            rule="8-bit AdamW comes from bitsandbytes, which is not installed",
            remedy="pip install 'burnish[quant]', or optimizer: adamw",
        ) from error
    return AdamW8bit(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)
