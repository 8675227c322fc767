"""Interface of samplers: prompts, the sampler protocol, and a listener for streaming."""

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
    """Prompt to be continued. A fixed beginning of the response is part of the prompt."""

    tokens: Tensor
    """[P] int64, P >= 1."""
    key: int
    """Identity for the random numbers: the same key, seed and step give the same responses, whatever the other
    prompts."""


class StreamListener:
    """Listener for responses while they are generated; subclasses override its methods, which do nothing."""

    def token(self, place: int, index: int, token: int) -> None:
        """Called for every new token of a response.

        Args:
            place: index of its prompt in the call.
            index: index of the response in its group.
            token: the new token; the end token included.
        """

    def group(self, place: int, group: Group) -> None:
        """Called when all responses to the prompt at index `place` are complete; prompts complete in any order."""


class Sampler(Protocol):
    """Sampler: prompts → groups of responses with token ids and log-probabilities."""

    def sample(self, prompts: Sequence[Prompt], n: int, params: SamplingParams, *, step: int = 0) -> list[Group]:
        """Generates n responses to each prompt.

        Args:
            prompts: prompts with distinct keys.
            n: responses per prompt.
            params: sampling parameters.
            step: optimizer step of the weights; enters the random numbers and `Response.policy_version`.

        Returns:
            Groups in the order of the prompts. Every response has `sampler_logprobs` (log-softmax(z / T) over the whole
            vocabulary, before truncation), `policy_version` and `finish`; all its tokens are trainable,
            including the end token.
        """


def check_prompts(prompts: Sequence[Prompt], limit: int) -> None:
    """Refuses prompts that leave no room for a response.

    Raises:
        ModelError: a prompt has no token, or fills all positions of the model.
    """
    assert len({prompt.key for prompt in prompts}) == len(prompts), "prompts have distinct keys"
    if not all(len(prompt.tokens) for prompt in prompts):
        raise ModelError(
            given="a prompt without a token",
            rule="a prompt has at least one token",
            remedy="give a prompt that is not empty",
        )
    longest = max((len(prompt.tokens) for prompt in prompts), default=0)
    if longest >= limit:
        raise ModelError(
            given=f"a prompt of {longest:,} tokens",
            rule=f"prompt and response together fill at most the model's {limit:,} positions",
            remedy="shorten the prompt, or drop such rows",
        )
