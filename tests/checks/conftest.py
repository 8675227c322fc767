"""A tiny model whose every weight matters, a few rows, and subjects made of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch

from burnish.builtin.sets import generate, write_rows
from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.checks.subject import Subject
from burnish.recipe.read import stage_recipe
from burnish.watch.quiet import quiet_transformers
from tests.conversations import FORGETFUL, pair, talk

LORA = ("adapter.kind=lora", "adapter.rank=4")
MakeSubject = Callable[..., Subject]


def write_model(folder: Path) -> None:
    """Weights large enough that what a token sees changes what it predicts."""
    model = make_model(0, hidden_size=32, layers=2)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    with quiet_transformers():
        model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model, train.jsonl and test.jsonl."""
    folder = tmp_path_factory.mktemp("world")
    write_model(folder / "model")
    write_rows(folder / "train.jsonl", generate(seed=1, count=60))
    write_rows(folder / "test.jsonl", generate(seed=2, count=10))
    (folder / "forgetful.jinja").write_text(FORGETFUL)
    write_rows(folder / "turns.jsonl", [{"messages": talk(3, first=n, thought=40, question=40)} for n in range(6)])
    pairs = [pair(2, first=n, thought=30, question=30) for n in range(6)]
    write_rows(folder / "pairs-of-turns.jsonl", pairs)
    return folder


@pytest.fixture
def make_subject(world: Path, tmp_path: Path) -> MakeSubject:
    """A subject of the world, with settings as on the command line."""

    numbers = count()

    def make(*settings: str, model: Path | None = None, data: str = "train.jsonl", stage: str = "sft") -> Subject:
        given = {"model": str(model or world / "model"), "data": str(world / data)}
        folder = tmp_path / f"work-{next(numbers)}"
        folder.mkdir()
        return Subject(stage_recipe(stage, given, settings), folder)

    return make
