"""NEFTune: uniform noise on the embeddings of training (arXiv 2310.05914, algorithm 1).

Between packing and the model. Noise of a sequence is drawn from (seed, step, its group in the step) alone and its size
from the sequence's own length, so that it is the same in every packing: the invariance law holds with it. Departs from
other implementations in that: they take the length of a padded row, and draw in the order of the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from burnish.types import EmbeddingNoise, Microbatch


@dataclass(frozen=True, slots=True)
class Neftune:
    """Noise for every step of a training. Example: ``Neftune(alpha=5.0, seed=0)``."""

    alpha: float
    """Its size: a number of an embedding gets up to alpha / sqrt(tokens of the sequence × width), either way."""
    seed: int
    """Of the noise of all steps."""

    def on(self, microbatches: list[Microbatch], step: int) -> list[Microbatch]:
        """The microbatches of a step, counted from 0, with noise on their embeddings."""
        noise = EmbeddingNoise(self.alpha, self.seed, step)
        return [replace(microbatch, noise=noise) for microbatch in microbatches]


@contextmanager
def perturbed(embedding: nn.Module, microbatch: Microbatch) -> Iterator[None]:
    """Inside, what the embedding gives for the packed tokens has the microbatch's noise, if there is any.

    It is added to the module's output, which in families that scale their embeddings (Gemma) is scaled already.
    """
    if microbatch.noise is None:
        yield
        return

    start = 0  # a model that takes one sequence at a time embeds the packed tokens bit by bit, in their order

    def add(_: nn.Module, __: object, embedded: Tensor) -> Tensor:
        nonlocal start
        rows = slice(start, start + embedded.shape[-2])
        start = rows.stop
        return embedded + draw_noise(microbatch, embedded.shape[-1])[rows].to(embedded.dtype)

    handle = embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def draw_noise(microbatch: Microbatch, width: int) -> Tensor:
    """[N, width] float32 on the microbatch's device.

    Sequences of several responses share their prompt and have no length of their own: there must be none.
    """
    noise, layout = microbatch.noise, microbatch.layout
    assert noise is not None, "only a microbatch with noise is given any"
    assert len(layout.segments) == microbatch.num_sequences, "noise is for groups of one response"
    generator = torch.Generator(microbatch.tokens.device)
    pieces = []
    for segment, group in zip(layout.segments, microbatch.sequence_group.tolist(), strict=True):
        generator.manual_seed(_seed(noise, group))
        shape = (segment.length, width)
        uniform = torch.rand(shape, generator=generator, device=generator.device).mul_(2).sub_(1)
        pieces.append(uniform.mul_(noise.alpha / (segment.length * width) ** 0.5))
    return torch.cat(pieces)


def _seed(noise: EmbeddingNoise, group: int) -> int:
    """63 bits that belong to a group of a step."""
    digest = hashlib.blake2b(f"neftune {noise.seed} {noise.step} {group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
