"""NEFTune: uniform noise on the embeddings of training (arXiv 2310.05914, algorithm 1).

Runs between packing and the model. Noise of a sequence is drawn from (seed, step, its group in the step) alone, and its
size depends on the sequence's own length, so it is the same in every packing and the invariance law holds. Other
implementations use the length of a padded row, and draw in the order of the rows.
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
    """Embedding noise of a training. Example: ``Neftune(alpha=5.0, seed=0)``."""

    alpha: float
    """Size of the noise: each number of an embedding changes by up to alpha / sqrt(tokens of the sequence × width),
    either way."""
    seed: int
    """Seed of the noise of all steps."""

    def on(self, microbatches: list[Microbatch], step: int) -> list[Microbatch]:
        """The microbatches of a step, counted from 0, with noise on their embeddings."""
        noise = EmbeddingNoise(self.alpha, self.seed, step)
        return [replace(microbatch, noise=noise) for microbatch in microbatches]


@contextmanager
def perturbed(embedding: nn.Module, microbatch: Microbatch) -> Iterator[None]:
    """Context manager in which the embedding's output has the microbatch's noise, if there is any.

    The noise is added to the module's output, which is already scaled in families that scale embeddings (Gemma).
    """
    if microbatch.noise is None:
        yield
        return

    start = 0  # the unpacked route embeds the packed tokens sequence by sequence, in order

    def add(_: nn.Module, __: object, embedded: Tensor) -> Tensor:
        nonlocal start
        positions = slice(start, start + embedded.shape[-2])
        start = positions.stop
        return embedded + draw_noise(microbatch, embedded.shape[-1])[positions].to(embedded.dtype)

    handle = embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def draw_noise(microbatch: Microbatch, width: int) -> Tensor:
    """Noise [N, width], float32 on the microbatch's device.

    Every group must have one response, since responses that share a prompt have no sequence length of their own.
    """
    noise, layout = microbatch.noise, microbatch.layout
    assert noise is not None, "only a microbatch with noise needs a draw"
    alone = len(layout.segments) == microbatch.num_sequences and not any(s.context for s in layout.segments)
    assert alone, "noise is for groups of one response"
    generator = torch.Generator(microbatch.tokens.device)
    pieces = []
    for segment, group in zip(layout.segments, microbatch.sequence_group.tolist(), strict=True):
        generator.manual_seed(_seed(noise, group))
        shape = (segment.length, width)
        uniform = torch.rand(shape, generator=generator, device=generator.device).mul_(2).sub_(1)
        pieces.append(uniform.mul_(noise.alpha / (segment.length * width) ** 0.5))
    return torch.cat(pieces)


def _seed(noise: EmbeddingNoise, group: int) -> int:
    """63-bit seed of a group in a step."""
    digest = hashlib.blake2b(f"neftune {noise.seed} {noise.step} {group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
