"""Responses that a teacher writes to the prompts of a stage, once, kept in the cache.

What is learned from them is sequence-level distillation (Kim and Rush 2016, arXiv 1606.07947). Token ids are kept, and
never made of text again where student and teacher have the same tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.data.cache import cache_entry, entry_lock, finish_entry
from burnish.data.eviction import mark_used
from burnish.data.prompts import TokenizedPrompt
from burnish.sampling.base import Sampler, SampleRequest
from burnish.sampling.params import SamplingParams

KIND = "teacher-responses"
"""Kind of the entry in the cache."""
BLOCK = 64
"""Number of prompts that are answered together."""
Progress = Callable[[int, int], None]
"""Called with the number of prompts answered and of all prompts."""


@dataclass(frozen=True, slots=True)
class Written:
    """One response of a teacher."""

    tokens: tuple[int, ...]
    """Token ids of the teacher, the end token included."""
    ended: bool
    """Whether it ends with an end token or a text that stops it; False: it was truncated."""


def written_responses(
    sampler: Callable[[], Sampler],
    prompts: Sequence[TokenizedPrompt],
    seen: Callable[[TokenizedPrompt], Tensor],
    n: int,
    params: SamplingParams,
    name: str,
    progress: Progress | None = None,
) -> list[list[Written]]:
    """The teacher's n responses to each prompt, from the cache's entry of this name, or sampled and stored there.

    Args:
        sampler: gives the sampler of the teacher; called where something is missing.
        prompts: prompts of the stage.
        seen: prompt → [P] int64, as the teacher reads it.
        n: number of responses to each.
        params: sampling parameters.
        name: sha256 of everything that determines the responses.
        progress: see `Progress`.
    """
    found: list[list[Written]] = []
    with cache_entry(KIND, name) as entry, entry_lock(entry):
        answers: Sampler | None = None
        for start in range(0, len(prompts), BLOCK):
            path, chosen = entry / f"block-{start:09d}.npz", prompts[start : start + BLOCK]
            if (block := _read(path, len(chosen), n)) is None:
                answers = answers or sampler()
                block = _sampled(answers, chosen, seen, n, params)
                _write(path, block)
            found += block
            if progress is not None:
                progress(len(found), len(prompts))
        mark_used(entry)
        finish_entry(entry)
    return found


def _sampled(
    sampler: Sampler,
    prompts: Sequence[TokenizedPrompt],
    seen: Callable[[TokenizedPrompt], Tensor],
    n: int,
    params: SamplingParams,
) -> list[list[Written]]:
    requests = [SampleRequest(seen(prompt), prompt.row) for prompt in prompts]
    groups = sampler.sample(requests, n, params)
    return [
        [Written(tuple(response.tokens.tolist()), response.finish == "end") for response in group.responses]
        for group in groups
    ]


def _write(path: Path, block: Sequence[Sequence[Written]]) -> None:
    """Writes the block atomically."""
    responses = [response for group in block for response in group]
    arrays: dict[str, NDArray[np.int64]] = {
        "sizes": np.array([len(response.tokens) for response in responses], np.int64),
        "ended": np.array([response.ended for response in responses], np.int64),
        "tokens": np.array([token for response in responses for token in response.tokens], np.int64),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


def _read(path: Path, prompts: int, n: int) -> list[list[Written]] | None:
    """Reads a block; None: there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            sizes, ended = arrays["sizes"].tolist(), arrays["ended"].tolist()
            tokens = torch.from_numpy(arrays["tokens"])
    except (OSError, EOFError, ValueError, KeyError):
        return None
    if len(sizes) != prompts * n or sum(sizes) != len(tokens):
        return None
    parts = [tuple(part.tolist()) for part in tokens.split(sizes)]
    written = [Written(part, bool(flag)) for part, flag in zip(parts, ended, strict=True)]
    return [written[start : start + n] for start in range(0, len(written), n)]
