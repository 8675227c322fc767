"""Who writes tokens. The contract of every sampler: the one in this process, and engines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from burnish.errors import ModelError
from burnish.sampling.params import SamplingParams
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class Prompt:
    """What is to be continued. A response that should begin in a given way: its beginning stands in the prompt."""

    tokens: Tensor
    """[P] int64, P >= 1."""
    key: int
    """Identity for the random numbers: the same key, seed and step give the same responses, whatever else is asked."""


class StreamListener:
    """Is told of responses while they are written, and does nothing: who wants to know overrides."""

    def token(self, place: int, index: int, token: int) -> None:
        """A response has one more token.

        Args:
            place: of its prompt among the prompts of the call.
            index: of the response in its group.
            token: its newest one; the end token is told too.
        """

    def group(self, place: int, group: Group) -> None:
        """All responses to the prompt at this place are written. Prompts end in any order."""


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


def check_prompts(prompts: Sequence[Prompt], most_positions: int) -> None:
    """Refuses prompts that leave no room for a response.

    Raises:
        ModelError: a prompt has no token, or fills all positions of the model.
    """
    assert len({prompt.key for prompt in prompts}) == len(prompts), "every prompt has a key of its own"
    if not all(len(prompt.tokens) for prompt in prompts):
        raise ModelError(
            given="a prompt without a token",
            rule="a model continues something",
            remedy="give a prompt that says something",
        )
    longest = max((len(prompt.tokens) for prompt in prompts), default=0)
    if longest >= most_positions:
        raise ModelError(
            given=f"a prompt of {longest:,} tokens",
            rule=f"prompt and response together fill at most the model's {most_positions:,} positions",
            remedy="shorten the prompt, or drop such rows",
        )
