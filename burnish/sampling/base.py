"""Contract of samplers: requests → groups of responses. Rollouts, evaluations, generation and chat use it.

A sampler generates with the weights that were last published to it. One in the trainer's process reads the trained
tensors themselves; one elsewhere (another device, an inference engine) copies them, and may lag behind. The random
numbers of a response do not depend on the other requests; its tokens do not either, up to rounding (docs/design.md).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from burnish.errors import ModelError
from burnish.model.policy import Model
from burnish.sampling.params import SamplingParams
from burnish.types import Group, MediaRef
from burnish.watch.parts import OnPart

EVALUATED = -1
"""Version of weights that are evaluated and not trained, such as an average of the trained ones."""
_TOKENS = 256
"""Tokens between two reports of `AnsweredPrompts`."""


@dataclass(frozen=True, eq=False, slots=True)
class SampleRequest:
    """Prompt of a group of responses, as token ids."""

    tokens: Tensor
    """[P] int64, P >= 1. A fixed beginning of the response is part of the prompt."""
    rng_key: int
    """Identity for the random numbers: the same key, seed and step give the same random numbers, whatever the other
    requests."""
    media: tuple[MediaRef, ...] = ()
    """Images of the prompt."""


class StreamListener:
    """Listener for responses while they are generated; subclasses override its methods, which do nothing."""

    def token(self, place: int, index: int, token: int) -> None:
        """Called for every new token of a response.

        Args:
            place: index of its request in the call.
            index: index of the response in its group.
            token: the new token; the end token included.
        """

    def group(self, place: int, group: Group) -> None:
        """Called when all responses to the request at index `place` are complete; they complete in any order."""


class AnsweredPrompts(StreamListener):
    """Reports the number of prompts that are answered; also every few tokens, since all may be answered at the end."""

    def __init__(self, total: int, on_part: OnPart) -> None:
        """`total` is the number of requests."""
        self._total, self._on_part, self._done, self._tokens = total, on_part, 0, 0

    def token(self, place: int, index: int, token: int) -> None:
        self._tokens += 1
        if self._tokens % _TOKENS == 1:
            self._report()

    def group(self, place: int, group: Group) -> None:
        self._done += 1
        self._report()

    def _report(self) -> None:
        self._on_part("prompts answered", self._done, self._total)


class Sampler(Protocol):
    """Sampler: requests → groups of responses with token ids and log-probabilities."""

    @property
    def max_positions(self) -> int:
        """Maximum number of tokens of prompt and response together."""

    @property
    def end_tokens(self) -> Collection[int]:
        """Tokens that end a response."""

    @property
    def deterministic(self) -> bool:
        """Whether the same requests, random numbers and weights always give the same responses. Without it, a resumed
        run loses nothing and trains on nothing twice, but differs from an undisturbed one."""

    @property
    def max_staleness(self) -> int:
        """Maximum number of optimizer steps by which its weights are behind those published last; 0: never."""

    def publish(self, policy: Model, version: int) -> int:
        """Makes a policy's present weights those of the next responses. Returns when they are in use, or weights at
        most `max_staleness` behind them.

        Args:
            policy: the policy. A sampler elsewhere copies its weights, and verifies the copy.
            version: number of optimizer steps of the weights; or `EVALUATED`: the next responses are of exactly these.

        Returns:
            The version of the next responses, at most `version`.
        """

    def sample(
        self,
        requests: Sequence[SampleRequest],
        n: int,
        params: SamplingParams,
        *,
        step: int = 0,
        listener: StreamListener | None = None,
    ) -> list[Group]:
        """Generates n responses to each request.

        Args:
            requests: requests with distinct keys.
            n: responses per request.
            params: sampling parameters.
            step: optimizer step for which the responses are; enters the random numbers.
            listener: is called for every token and for every complete group; None: no listener.

        Returns:
            Groups in the order of the requests. Every response has `sampler_logprobs` (log-softmax(z / T) over the
            whole vocabulary, before truncation), `policy_version` (see `publish`; 0 before the first) and `finish`; all
            its tokens are trainable, including the end token.

        Raises:
            ModelError: a prompt is empty, or leaves no room for a response.
        """


def refuse_images(requests: Sequence[SampleRequest]) -> None:
    """Refuses prompts with images, for a sampler that takes text alone.

    Raises:
        ModelError: a prompt has an image.
    """
    if any(request.media for request in requests):
        raise ModelError(
            given="a prompt with images",
            rule="this sampler takes text alone; the local one takes images",
            remedy="leave the sampler out, or leave such rows out",
        )


def check_requests(requests: Sequence[SampleRequest], limit: int) -> None:
    """Refuses prompts that leave no room for a response.

    Raises:
        ModelError: a prompt has no token, or fills all positions of the model.
    """
    assert len({request.rng_key for request in requests}) == len(requests), "requests have distinct keys"
    if not all(len(request.tokens) for request in requests):
        raise ModelError(
            given="a prompt without a token",
            rule="a prompt has at least one token",
            remedy="give a prompt that is not empty",
        )
    longest = max((len(request.tokens) for request in requests), default=0)
    if longest >= limit:
        raise ModelError(
            given=f"a prompt of {longest:,} tokens",
            rule=f"prompt and response together fill at most the model's {limit:,} positions",
            remedy="shorten the prompt, or drop such rows",
        )
