"""Who writes tokens. The contract of every sampler: the one in this process, and engines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from burnish.sampling.choice import SamplingParams
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class Prompt:
    """What is to be continued. A response that should begin in a given way: its beginning stands in the prompt."""

    tokens: Tensor
    """[P] int64, P >= 1."""
    key: int
    """Identity for the random numbers: the same key, seed and step give the same responses, whatever else is asked."""


class Sampler(Protocol):
    """Prompts → groups of responses with token ids and log-probabilities."""

    def sample(self, prompts: Sequence[Prompt], n: int, params: SamplingParams, *, step: int = 0) -> list[Group]:
        """Writes n responses to each prompt.

        Args:
            prompts: distinct keys.
            n: responses of each.
            params: how tokens are chosen and when a response ends.
            step: the optimiser step whose weights write; enters the random numbers and `Response.policy_version`.

        Returns:
            Groups in the order of the prompts. Every response has `sampler_logprobs` (log-softmax(z / T) over the whole
            vocabulary, before truncation), `policy_version` and `finish`; all its tokens, the end token too, are
            trainable.
        """
