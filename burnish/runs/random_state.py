"""State of random generators, and the settings of torch that determine the last bits of a sum.

Part of every checkpoint: captured after a step, restored before the next one. Tensors are named ``random/...``; the
caller stores the values under a separate key.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.runs.json_value import JSON

_PREFIX = "random/"


def capture_random() -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """The state of Python's, numpy's (global), torch's CPU and every CUDA device's generator, and thread settings."""
    version, words, gauss = random.getstate()
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict), "numpy gives a dictionary unless asked for the legacy tuple"
    assert state["bit_generator"] == "MT19937", "numpy's global generator is the one that it starts with"
    tensors = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(state["state"]["key"].astype(np.int64)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        tensors |= {f"cuda/{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    values: dict[str, JSON] = {
        "python": {"version": version, "gauss": gauss},
        "numpy": {
            "position": int(state["state"]["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        },
        "threads": thread_settings(),
    }
    return {_PREFIX + name: tensor for name, tensor in tensors.items()}, values


def restore_random(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restores the result of `capture_random`; `tensors` may have further entries.

    States of CUDA devices that this machine does not have are ignored; generators without a state are unchanged.
    """
    python, numpy = values["python"], values["numpy"]
    random.setstate((python["version"], tuple(tensors[_PREFIX + "python"].tolist()), python["gauss"]))
    key = tensors[_PREFIX + "numpy"].numpy().astype(np.uint32)
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": key, "pos": numpy["position"]},
            "has_gauss": numpy["has_gauss"],
            "gauss": numpy["gauss"],
        }
    )
    torch.set_rng_state(tensors[_PREFIX + "torch"])
    for index in range(torch.cuda.device_count()):
        state = tensors.get(f"{_PREFIX}cuda/{index}")
        if state is not None:
            torch.cuda.set_rng_state(state, index)
    restore_threads(values["threads"])


def thread_settings() -> dict[str, JSON]:
    """Number of threads, and whether only deterministic algorithms are allowed."""
    return {
        "num_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
    }


def restore_threads(settings: Mapping[str, Any]) -> None:
    """Restores the result of `thread_settings`."""
    torch.set_num_threads(settings["num_threads"])
    warn_only = settings["deterministic_warn_only"]
    torch.use_deterministic_algorithms(settings["deterministic"], warn_only=warn_only)
