"""Optimisers from libraries, over float32 masters where the weights are narrower.

Stands beside `step`. The optimisers are torch's and bitsandbytes'; ours are only the choice of parameters for each and
the masters: bfloat16 weights have 8 bits of mantissa, so an update below 1/256 of a weight would be lost in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from burnish.errors import RecipeError

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


class Masters:
    """Float32 twins of the parameters that are narrower than float32; wider ones stand for themselves.

    Gradients are added to the twin in float32 as each microbatch makes them, so that accumulation does not round.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.masters = [_twin(p) if p.dtype.itemsize < 4 else p for p in self.parameters]
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.register_post_accumulate_grad_hook(partial(_hand_over, master))

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the weights that the model computes with."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)


def _twin(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to(torch.float32))


def _hand_over(master: nn.Parameter, parameter: Tensor) -> None:
    """Moves a fresh gradient from a parameter to its master."""
    assert parameter.grad is not None, "the hook runs after a gradient was accumulated"
    gradient = parameter.grad.to(torch.float32)
    master.grad = gradient if master.grad is None else master.grad.add_(gradient)
    parameter.grad = None


class Optimizer:
    """One role's optimiser: its masters, its libraries' optimisers, and clipping."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        settings: OptimizerSettings,
        embedding_like: Iterable[nn.Parameter] = (),
    ) -> None:
        """
        Args:
            named_parameters: the trained parameters.
            settings: which optimiser, and how.
            embedding_like: embedding and head, which Muon leaves to AdamW.
        """
        named = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.masters = Masters(parameter for _, parameter in named)
        self.settings = settings
        outside = {id(parameter) for parameter in embedding_like}
        matrices = [p.ndim == 2 and id(p) not in outside for p in self.masters.parameters]
        self.libraries = _build(self.masters.masters, matrices, settings)

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
                group["lr"] = factor * self.settings.learning_rate
            library.step()
            library.zero_grad(set_to_none=True)
        self.masters.publish()
        return norm


def _build(
    parameters: list[nn.Parameter], matrices: list[bool], settings: OptimizerSettings
) -> list[torch.optim.Optimizer]:
    if settings.name != "muon":
        return [_adamw(parameters, settings)]
    inner = [p for p, is_matrix in zip(parameters, matrices, strict=True) if is_matrix]
    rest = [p for p, is_matrix in zip(parameters, matrices, strict=True) if not is_matrix]
    muon = torch.optim.Muon(
        inner, lr=settings.learning_rate, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, _adamw(rest, settings)] if rest else [muon]


def _adamw(parameters: list[nn.Parameter], settings: OptimizerSettings) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
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
