"""Optimizer state as named tensors and JSON values, lossless and without pickle.

Part of every checkpoint. Works on `state` and `param_groups`, which every `torch.optim.Optimizer` has: tested with
torch's AdamW and Muon, and with the 8-bit AdamW of bitsandbytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from burnish.errors import RunError
from burnish.runs.json_value import JSON

# Choice of kernels for the same formula: depends on the machine, not on the run.
_KERNELS = ("foreach", "fused", "capturable", "differentiable")

ShapeOf = Callable[[Tensor], list[int]]
"""Gives the shape of the whole weight of a parameter of the optimizer, which may be a part of it."""


def own_shape(parameter: Tensor) -> list[int]:
    """The shape of a parameter that is a whole weight."""
    return list(parameter.shape)


def flatten_optimizer(
    optimizer: torch.optim.Optimizer, prefix: str = "optimizer/", *, shape_of: ShapeOf = own_shape
) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """The optimizer's state: tensors under `prefix`, and values.

    The tensors are the optimizer's own, not copies: save them before the next step. ``optimizer/3/exp_avg`` belongs to
    the fourth parameter in the order of the groups, ``optimizer/group/0/lr`` is a hyperparameter that is a tensor.
    """
    tensors: dict[str, Tensor] = {}
    states: dict[str, JSON] = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        # optimizer.state[parameter] alone would create an empty state for a parameter that has none yet.
        if parameter in optimizer.state:
            states[str(index)] = _split(optimizer.state[parameter], f"{prefix}{index}/", tensors)
    groups: list[JSON] = []
    for index, group in enumerate(optimizer.param_groups):
        rest = {key: value for key, value in group.items() if key != "params"}
        groups.append(_split(rest, f"{prefix}group/{index}/", tensors))
    return tensors, {**_description(optimizer, shape_of), "states": states, "groups": groups}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    prefix: str = "optimizer/",
    *,
    shape_of: ShapeOf = own_shape,
) -> None:
    """Restores the result of `flatten_optimizer` in a new optimizer over the same parameters; no tensor is shared.

    Hyperparameters are the saved ones; the choice of kernels (fused, foreach, ...) is that of the new optimizer.
    """
    _refuse_other(optimizer, values, shape_of)
    states = {int(index): _join(scalars, f"{prefix}{index}/", tensors) for index, scalars in values["states"].items()}
    groups, start = [], 0
    for index, (group, saved) in enumerate(zip(optimizer.param_groups, values["groups"], strict=True)):
        size = len(group["params"])
        groups.append(_merge(group, _join(saved, f"{prefix}group/{index}/", tensors)))
        groups[-1]["params"] = list(range(start, start + size))
        start += size
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    _restore_exactly(optimizer, states)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _description(optimizer: torch.optim.Optimizer, shape_of: ShapeOf) -> dict[str, JSON]:
    """The optimizer's class and the shapes in each group, which must be equal for a state to fit."""
    shapes: JSON = [[[*shape_of(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    return {"kind": type(optimizer).__qualname__, "shapes": shapes}


def _refuse_other(optimizer: torch.optim.Optimizer, values: Mapping[str, Any], shape_of: ShapeOf) -> None:
    for key, current in _description(optimizer, shape_of).items():
        if values[key] != current:
            raise RunError(
                given=f"the checkpoint is of an optimizer with {key} {values[key]}, here it is {current}",
                rule="the state of an optimizer fits only its own kind over parameters of the same shapes",
                remedy="give another --output for the new run, or the old model and optimizer to continue this one",
            )


def _split(entries: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> dict[str, JSON]:
    """Adds tensors to `tensors` under the prefix, and returns the other entries."""
    tensors |= {prefix + key: value for key, value in entries.items() if isinstance(value, Tensor)}
    return {key: value for key, value in entries.items() if not isinstance(value, Tensor)}


def _join(scalars: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of `_split`."""
    tensors_of_state = {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
    return {**scalars, **tensors_of_state}


def _merge(fresh: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """A group with the saved hyperparameters; lists from JSON become tuples where the new group has tuples."""
    merged = {**fresh, **{key: value for key, value in saved.items() if key not in _KERNELS}}
    for key, value in fresh.items():
        if isinstance(value, tuple):
            merged[key] = tuple(merged[key])
    return merged


def _restore_exactly(optimizer: torch.optim.Optimizer, states: Mapping[int, Mapping[str, Any]]) -> None:
    """Restores dtypes and ownership of state tensors after `load_state_dict`.

    It casts floats to the parameter's dtype, by which float32 states of bfloat16 parameters would lose bits; and
    without a cast it keeps the given tensor, which later steps would change in place.
    """
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, saved in states.get(index, {}).items():
            if not isinstance(saved, Tensor):
                continue
            restored = optimizer.state[parameter][key]
            if restored.dtype != saved.dtype:
                restored = saved.to(restored.device)
            optimizer.state[parameter][key] = restored.clone() if restored.data_ptr() == saved.data_ptr() else restored
