"""Groups of random tokens, and what every test has. Everything here is made in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from transformers import PreTrainedModel

from burnish.types import Group, Response
from tests.families import FAMILIES, SIZES, VOCABULARY, in_float64

__all__ = ["FAMILIES", "SHARED", "SIZES", "VOCABULARY", "make_groups", "make_response"]

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


SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def float64_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], PreTrainedModel]:
    """Builds a family in float64, see `families.in_float64`."""
    return lambda family: in_float64(family, monkeypatch)


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
