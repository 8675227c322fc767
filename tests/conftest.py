"""Tiny models of every family, and groups of random tokens. Everything here is made in memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from burnish.types import Group, Response

settings.register_profile("burnish", deadline=None, derandomize=True)  # machines are noisy; runs are repeatable
settings.load_profile("burnish")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Contents of files do not name tests: they may hold the time, and every worker must collect the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; processes that tests start inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BURNISH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


VOCABULARY = 61
SHARED = Path(__file__).parents[2] / "shared"

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
WINDOWED = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}

FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama-tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True, attention_bias=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen2-windowed": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, **WINDOWED)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True)),
    "qwen3-windowed": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16, **WINDOWED)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, head_dim=8, sliding_window=None)),
    "mistral-windowed": lambda: MistralForCausalLM(MistralConfig(**SIZES, head_dim=8, sliding_window=6)),
}


class _Float64Torch:
    """torch, with a float32 that is float64: transformers' norms round to float32 also in float64 models."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


@pytest.fixture
def float64_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PreTrainedModel]:
    """Builds a family in float64, with every rounding to float32 inside its model code removed."""

    def build(family: str) -> PreTrainedModel:
        torch.manual_seed(0)
        model = FAMILIES[family]()
        monkeypatch.setattr(importlib.import_module(type(model).__module__), "torch", _Float64Torch())
        for parameter in model.parameters():  # the initial weights are small: make every part of the model matter
            parameter.data.normal_(0.0, 0.3)
        return model.double().train()

    return build


def make_response(length: int, generator: torch.Generator, *, holes: bool = False) -> Response:
    """Random tokens; with holes, a random part of them is not trained (the last one always is)."""
    trainable = torch.rand(length, generator=generator) < 0.6 if holes else torch.ones(length, dtype=torch.bool)
    trainable[-1] = True
    return Response(
        tokens=torch.randint(VOCABULARY, (length,), generator=generator),
        trainable=trainable,
        weights=torch.rand(length, generator=generator),
    )


def make_groups(shapes: list[tuple[int, list[int]]], seed: int = 0, *, holes: bool = False) -> list[Group]:
    """Groups from (prompt length, response lengths)."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Group(
            prompt=torch.randint(VOCABULARY, (prompt,), generator=generator),
            responses=tuple(make_response(length, generator, holes=holes) for length in lengths),
        )
        for prompt, lengths in shapes
    ]


@pytest.fixture
def shared_folder() -> Path:
    """The folder with real data and a real model, beside the checkout; the test is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("the folder with real data and models is not beside this checkout")
    return SHARED
