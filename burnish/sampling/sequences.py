"""Active sequences of a sampling call, and the groups that they become. Shared by both samplers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.sampling.base import SampleRequest, StreamListener
from burnish.sampling.choice import choose
from burnish.sampling.params import SamplingParams
from burnish.sampling.stopping import StopRules
from burnish.sampling.uniform import uniform
from burnish.types import Finish, Group, Response


@dataclass(eq=False, slots=True)
class ActiveSequence:
    """Response that is being generated."""

    request: int
    """Index of its request in the call."""
    index: int
    """Index of the response in its group."""
    max_tokens: int
    """Positions left after the prompt."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None


class SamplingJob:
    """One call of a sampler: chooses tokens of its sequences, and collects finished ones in groups."""

    def __init__(
        self,
        requests: Sequence[SampleRequest],
        n: int,
        params: SamplingParams,
        rules: StopRules,
        *,
        step: int,
        version: int,
        listener: StreamListener | None,
    ) -> None:
        self.requests, self.n, self.params, self._rules = requests, n, params, rules
        self._step, self._version, self._listener = step, version, listener
        self._finished: dict[int, list[ActiveSequence]] = {place: [] for place in range(len(requests))}
        self._groups: dict[int, Group] = {}

    def choose(
        self, sequences: Sequence[ActiveSequence], probabilities: Tensor, log_partition: Tensor, seen: Tensor | None
    ) -> list[int]:
        """Chooses the next token of each sequence, and sets `ActiveSequence.finish` of those that end.

        Args:
            sequences: R sequences.
            probabilities: [R, V] softmax(z / T).
            log_partition: [R] log Σ exp(z / T).
            seen: [R, V] bool, tokens of prompt and response; needed for a repetition penalty.
        """
        numbers = torch.from_numpy(self._uniforms(sequences)).to(probabilities.device)
        chosen = choose(probabilities, log_partition, numbers, self.params, seen)
        chosen_logprobs = probabilities.gather(1, chosen[:, None])[:, 0].log()
        transferred = torch.stack([chosen.to(torch.float64), chosen_logprobs.to(torch.float64)])  # both exact
        token_numbers, logprobs = transferred.tolist()  # one transfer for both
        tokens = [int(token) for token in token_numbers]
        for sequence, token, logprob in zip(sequences, tokens, logprobs, strict=True):
            sequence.tokens.append(token)
            sequence.logprobs.append(logprob)
            sequence.finish = self._rules.finish(sequence.tokens, sequence.max_tokens)
            if self._listener is not None:
                self._listener.token(sequence.request, sequence.index, token)
        return tokens

    def _uniforms(self, sequences: Sequence[ActiveSequence]) -> NDArray[np.float64]:
        """[R] one number for the next token of every sequence."""
        keys = np.array([self.requests[sequence.request].rng_key for sequence in sequences], dtype=np.int64)
        indices = np.array([sequence.index for sequence in sequences], dtype=np.int64)
        counts = np.array([len(sequence.tokens) for sequence in sequences], dtype=np.int64)
        return uniform(self.params.seed, self._step, keys, indices, counts)

    def close(self, sequence: ActiveSequence, dtype: torch.dtype) -> None:
        """Collects a finished sequence, with log-probabilities of this type; the last one completes its group."""
        finished = self._finished[sequence.request]
        finished.append(sequence)
        if len(finished) < self.n:
            return
        del self._finished[sequence.request]
        ordered = sorted(finished, key=lambda member: member.index)
        responses = tuple(self._response(member, dtype) for member in ordered)
        request = self.requests[sequence.request]
        group = Group(prompt=request.tokens, responses=responses, media=request.media)
        self._groups[sequence.request] = group
        if self._listener is not None:
            self._listener.group(sequence.request, group)

    def groups(self) -> list[Group]:
        """The groups, in the order of the requests."""
        return [self._groups[place] for place in range(len(self.requests))]

    def _response(self, sequence: ActiveSequence, dtype: torch.dtype) -> Response:
        size = len(sequence.tokens)
        return Response(
            tokens=torch.tensor(sequence.tokens),
            trainable=torch.ones(size, dtype=torch.bool),
            sampler_logprobs=torch.tensor(sequence.logprobs, dtype=dtype),
            policy_version=torch.full((size,), self._version),
            finish=sequence.finish,
        )
