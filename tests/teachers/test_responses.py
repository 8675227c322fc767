"""Responses of a teacher: written once, kept as token ids, and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.builtin.tiny import make_tokenizer, write_untrained
from burnish.data.prompts import TokenizedPrompt
from burnish.data.records import Task
from burnish.model.load import load_policy
from burnish.sampling.base import Sampler
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.teachers import responses
from burnish.teachers.responses import Written, written_responses

PARAMS = SamplingParams(max_new_tokens=5, seed=3)
PROMPTS = [TokenizedPrompt(row, torch.tensor([5 + row, 6, 7]), Task("x")) for row in range(5)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(responses, "BLOCK", 2)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Sampler:
    folder = tmp_path_factory.mktemp("teacher")
    write_untrained(folder, seed=1, hidden_size=32, layers=1)
    return sampler_of(load_policy(str(folder)), [make_tokenizer().eos_token_id])


def write(sampler: Sampler, name: str = "a", n: int = 2, stop_after: int | None = None) -> list[list[Written]]:
    def progress(done: int, total: int) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    return written_responses(lambda: sampler, PROMPTS, lambda prompt: prompt.tokens, n, PARAMS, name, progress)


def refused() -> Sampler:
    raise AssertionError("nothing is sampled again")


def test_they_are_the_samplers_tokens(sampler):
    written = write(sampler)
    assert [len(group) for group in written] == [2] * len(PROMPTS)
    for group in written:
        for response in group:
            assert 1 <= len(response.tokens) <= 5
            assert response.ended == (response.tokens[-1] == make_tokenizer().eos_token_id)


def test_they_are_written_once(sampler):
    first = write(sampler)
    again = written_responses(refused, PROMPTS, lambda prompt: prompt.tokens, 2, PARAMS, "a")
    assert again == first


def test_another_name_is_written_anew(sampler):
    write(sampler)
    with pytest.raises(AssertionError, match="sampled again"):
        written_responses(refused, PROMPTS, lambda prompt: prompt.tokens, 2, PARAMS, "b")


def test_an_interrupted_one_goes_on_where_it_was(sampler, tmp_path, monkeypatch):
    whole = write(sampler)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt):
        write(sampler, stop_after=2)
    assert write(sampler) == whole


def test_a_damaged_block_is_written_anew(sampler, tmp_path):
    whole = write(sampler)
    [*_, path] = sorted((tmp_path / "cache").rglob("block-*.npz"))
    path.write_bytes(b"damaged")
    assert write(sampler) == whole
