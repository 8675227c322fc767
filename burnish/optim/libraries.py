"""The libraries' optimisers, each with its parameters in groups by weight decay and factor of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from burnish.errors import RecipeError
from burnish.optim.settings import PAGED, OptimizerSettings

FACTOR = "factor"
"""In a library's group: what its parameters multiply the learning rate by."""


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A parameter as the optimiser sees it."""

    weight: nn.Parameter
    """What the library updates: the parameter itself, or its float32 twin."""
    is_inner: bool
    """A matrix between embedding and head."""
    decays: bool
    """It loses a share of itself in every step, if there is a weight decay."""
    factor: float = 1.0
    """Of the learning rate."""


def build(members: Sequence[Member], settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    """One library's optimiser over all members; for muon two: its own, and AdamW over what is not an inner matrix.

    Raises:
        RecipeError: the library, or the device that it needs, is not there.
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
    return [_of_bitsandbytes(groups, settings)]


def _groups(members: Sequence[Member], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """What decays comes first; then by factor."""
    kinds = sorted({(not member.decays, member.factor) for member in members})
    return [
        {
            "params": [m.weight for m in members if (not m.decays, m.factor) == (stays, factor)],
            "weight_decay": 0.0 if stays else settings.weight_decay,
            FACTOR: factor,
        }
        for stays, factor in kinds
    ]


def _muon(members: Sequence[Member], settings: OptimizerSettings) -> list[torch.optim.Optimizer]:
    inner = _groups([member for member in members if member.is_inner], settings)
    rest = _groups([member for member in members if not member.is_inner], settings)
    rate, options = settings.learning_rate, settings.options
    own = {"momentum": options["momentum"], "nesterov": options["nesterov"], "adjust_lr_fn": "match_rms_adamw"}
    of_adamw = {"betas": options["betas"], "eps": options["eps"], "fused": True}
    libraries: list[torch.optim.Optimizer] = [torch.optim.Muon(inner, lr=rate, **own)] if inner else []
    return [*libraries, torch.optim.AdamW(rest, lr=rate, **of_adamw)] if rest else libraries


def _schedule_free(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    try:
        from schedulefree import AdamWScheduleFree  # an optional extra
    except ImportError as error:
        raise _missing(settings, "schedulefree", "schedule-free") from error
    optimizer: torch.optim.Optimizer = AdamWScheduleFree(groups, lr=settings.learning_rate, **settings.options)
    optimizer.train()  # type: ignore[attr-defined]  # its steps are taken from the weights of training
    return optimizer


def _of_bitsandbytes(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
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
    """Puts restored states back into paged memory: whoever loads a state knows nothing of pages."""
    for parameter, state in library.state.items():
        for key in ("state1", "state2"):
            paged = library.get_state_buffer(parameter, dtype=state[key].dtype)  # type: ignore[attr-defined]
            state[key] = paged.copy_(state[key])


def _require_cuda(members: Sequence[Member], settings: OptimizerSettings) -> None:
    if not all(member.weight.is_cuda for member in members):
        raise RecipeError(
            given=f"optimizer.kind: {settings.kind} on the CPU",
            rule="a paged state moves between a GPU's memory and the machine's",
            remedy=f"optimizer.kind: {settings.kind.removesuffix('_paged')}",
        )


def _missing(settings: OptimizerSettings, package: str, extra: str) -> RecipeError:
    return RecipeError(
        given=f"optimizer.kind: {settings.kind}",
        rule=f"it comes from {package}, which is not installed",
        remedy=f"pip install 'burnish[{extra}]', or optimizer: adamw",
    )
