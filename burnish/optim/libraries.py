"""Optimizers of libraries, with parameter groups by weight decay and learning-rate factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from burnish.errors import RecipeError
from burnish.optim.settings import PAGED, OptimizerSettings

FACTOR = "factor"
"""Key of a parameter group: the factor of its learning rate."""


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """Trained parameter with its optimizer options."""

    weight: nn.Parameter
    """The tensor that the library updates: the parameter itself, or its float32 master."""
    is_inner: bool
    """Whether it is a matrix between embedding and head."""
    decays: bool
    """Whether weight decay applies."""
    factor: float = 1.0
    """Factor of the learning rate."""


def build(members: Sequence[Member], settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    """One optimizer over all parameters; for muon two: Muon, and AdamW over all but inner matrices.

    Raises:
        RecipeError: the library is not installed, or its device is missing.
    """
    groups, rate, options = _groups(members, settings), settings.learning_rate, settings.options
    match settings.kind:
        case "adamw":
            return [torch.optim.AdamW(groups, lr=rate, fused=True, **options)]
        case "adafactor":
            return [torch.optim.Adafactor(groups, lr=rate, **options)]
        case "sgd":
            return [torch.optim.SGD(groups, lr=rate, fused=True, **options)]
        case "muon":
            return _muon(members, settings)
        case "schedule_free":
            return [_schedule_free(groups, settings)]
        case kind if kind in PAGED:
            _require_cuda(members, settings)
    return [_bitsandbytes(groups, settings)]


def _groups(members: Sequence[Member], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Parameter groups, those with weight decay first, then by factor."""
    kinds = sorted({(not member.decays, member.factor) for member in members})
    return [
        {
            "params": [m.weight for m in members if (not m.decays, m.factor) == (undecayed, factor)],
            "weight_decay": 0.0 if undecayed else settings.weight_decay,
            FACTOR: factor,
        }
        for undecayed, factor in kinds
    ]


def _muon(members: Sequence[Member], settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    inner = _groups([member for member in members if member.is_inner], settings)
    rest = _groups([member for member in members if not member.is_inner], settings)
    rate, options = settings.learning_rate, settings.options
    muon = {"momentum": options["momentum"], "nesterov": options["nesterov"], "adjust_lr_fn": "match_rms_adamw"}
    adamw = {"betas": options["betas"], "eps": options["eps"], "fused": True}
    libraries: list[torch.optim.Optimizer] = [torch.optim.Muon(inner, lr=rate, **muon)] if inner else []
    return [*libraries, torch.optim.AdamW(rest, lr=rate, **adamw)] if rest else libraries


def _schedule_free(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    try:
        from schedulefree import AdamWScheduleFree  # an optional extra
    except ImportError as error:
        raise _missing(settings, "schedulefree", "schedule-free") from error
    optimizer: torch.optim.Optimizer = AdamWScheduleFree(groups, lr=settings.learning_rate, **settings.options)
    optimizer.train()  # type: ignore[attr-defined]  # steps start from the training weights, not from their average
    return optimizer


def _bitsandbytes(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    try:
        from bitsandbytes import optim  # an optional extra
    except ImportError as error:
        raise _missing(settings, "bitsandbytes", "quant") from error
    classes = {
        "adamw_8bit": optim.AdamW8bit,
        "adamw_paged": optim.PagedAdamW32bit,
        "adamw_8bit_paged": optim.PagedAdamW8bit,
        "lion": optim.Lion32bit,
        "lion_8bit": optim.Lion8bit,
    }
    optimizer: torch.optim.Optimizer = classes[settings.kind](groups, lr=settings.learning_rate, **settings.options)
    return optimizer


def page_again(library: torch.optim.Optimizer) -> None:
    """Moves restored states back into paged memory, which `load_state_dict` does not use."""
    for parameter, state in library.state.items():
        for key in ("state1", "state2"):
            paged = library.get_state_buffer(parameter, dtype=state[key].dtype)  # type: ignore[attr-defined]
            state[key] = paged.copy_(state[key])


def _require_cuda(members: Sequence[Member], settings: OptimizerSettings) -> None:
    if not all(member.weight.is_cuda for member in members):
        raise RecipeError(
            given=f"optimizer.kind: {settings.kind} on the CPU",
            rule="a paged state moves between GPU memory and main memory",
            remedy=f"optimizer.kind: {settings.kind.removesuffix('_paged')}",
        )


def _missing(settings: OptimizerSettings, package: str, extra: str) -> RecipeError:
    return RecipeError(
        given=f"optimizer.kind: {settings.kind}",
        rule=f"it comes from {package}, which is not installed",
        remedy=f"pip install 'burnish[{extra}]', or optimizer: adamw",
    )
