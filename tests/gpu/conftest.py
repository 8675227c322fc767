"""What the tests of a GPU have: the device, and a place for the figures that they measure.

`make test-gpu` runs them. With `BURNISH_GPU_TESTS_ON=cpu` they are tried without a device, so that mistakes in the
tests themselves show everywhere; what only a device has is then skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from burnish.builtin.sets import builtin_rows, generate, write_rows
from burnish.builtin.tiny import write_untrained
from burnish.model.attention import install
from tests.conversations import FORGETFUL, pair, talk
from tests.families import ALTERNATING, LOCAL_EXPERTS, SIZES, built

FIGURES = "BURNISH_GPU_FIGURES"
"""Names a JSON file into which the figures of the tests are written."""
WIDE = {**SIZES, "hidden_size": 64, "head_dim": 16}
"""Heads of 16: the narrowest that FlexAttention compiles."""
MODELS = {
    "llama": built("Llama", **WIDE, tie_word_embeddings=True),
    "gemma-2": built("Gemma2", **WIDE, **ALTERNATING, query_pre_attn_scalar=8, attn_logit_softcapping=2.0),
    "gpt-oss": built(
        "GptOss",
        **WIDE,
        **LOCAL_EXPERTS,
        **ALTERNATING,
        rope_parameters={"rope_theta": 1e4, "rope_type": "default"},
    ),
}
"""Plain attention; windows and soft-caps; windows and sinks."""


@pytest.fixture(scope="session")
def device() -> torch.device:
    """CUDA; the CPU where that is asked for."""
    asked = os.environ.get("BURNISH_GPU_TESTS_ON", "cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine (or torch was built without CUDA): run `make test-gpu` on one")
    return torch.device(asked, 0) if asked == "cuda" else torch.device(asked)


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    """For what only CUDA has."""
    if device.type != "cuda":
        pytest.skip("this is a trial on the CPU, and only CUDA has what is tested here")
    return device


@pytest.fixture(scope="session")
def all_figures() -> dict[str, float]:
    return {}


@pytest.fixture
def figures(all_figures: dict[str, float]) -> Iterator[dict[str, float]]:
    """What tests measure, by name; written as JSON after each of them, so that a run that is cut short has some."""
    yield all_figures
    if path := os.environ.get(FIGURES):
        Path(path).write_text(json.dumps(all_figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained tiny model (heads of 32), a teacher, and rows of every kind."""
    folder = tmp_path_factory.mktemp("world")
    write_untrained(folder / "model", hidden_size=64, layers=2)
    write_untrained(folder / "teacher", seed=5, hidden_size=64, layers=3)
    write_rows(folder / "train.jsonl", generate(seed=1, count=60))
    write_rows(folder / "pairs.jsonl", builtin_rows("preferences", count=60))
    write_rows(folder / "math.jsonl", builtin_rows("math", count=40))
    labelled = [
        {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
        for row in builtin_rows("preferences", count=40)
        for name in ("chosen", "rejected")
    ]
    write_rows(folder / "labelled.jsonl", labelled)
    (folder / "forgetful.jinja").write_text(FORGETFUL)
    turns = [{"messages": talk(3, first=n, thought=40, question=30)} for n in range(16)]
    write_rows(folder / "turns.jsonl", turns)
    pairs = [pair(2, first=n, thought=20, question=20) for n in range(16)]
    write_rows(folder / "pairs-of-turns.jsonl", pairs)
    return folder


def made(name: str, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """One of MODELS on a device, packed attention installed; everywhere the same random weights."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, 0.2)
    model = model.to(device=device, dtype=dtype).train()
    install(model)
    return model
