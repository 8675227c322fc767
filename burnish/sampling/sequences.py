"""Responses that are being written, and the groups that they become. Shared by the samplers of this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.sampling.base import Prompt, StreamListener
from burnish.sampling.choice import choose
from burnish.sampling.params import SamplingParams
from burnish.sampling.stopping import StopRules
from burnish.sampling.uniform import uniform
from burnish.types import Finish, Group, Response


@dataclass(eq=False, slots=True)
class ActiveSequence:
    """A response that is being written."""

    prompt: int
    """Place of its prompt among those of the call."""
    index: int
    """Of the response in its group."""
    most_tokens: int
    """As many as fit behind the prompt."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None


class SamplingJob:
    """One call of a sampler: how its rows go on, and the groups that they become."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        n: int,
        params: SamplingParams,
        rules: StopRules,
        step: int,
        watcher: StreamListener | None,
    ) -> None:
        self.prompts, self.n, self.params, self._rules = prompts, n, params, rules
        self._step, self._watcher = step, watcher
        self._finished: dict[int, list[ActiveSequence]] = {place: [] for place in range(len(prompts))}
        self._groups: dict[int, Group] = {}

    def choose(
        self, rows: Sequence[ActiveSequence], probabilities: Tensor, log_partition: Tensor, seen: Tensor | None
    ) -> list[int]:
        """Gives each row its next token, and says which rows end with it (`ActiveSequence.finish`).

        Args:
            rows: R rows.
            probabilities: [R, V] softmax(z / T).
            log_partition: [R] log Σ exp(z / T).
            seen: [R, V] bool, tokens of prompt and response; needed for a repetition penalty.
        """
        numbers = torch.from_numpy(self._uniforms(rows)).to(probabilities.device)
        chosen = choose(probabilities, log_partition, numbers, self.params, seen)
        picked = probabilities.gather(1, chosen[:, None])[:, 0].log()
        numbers_of = torch.stack([chosen.to(torch.float64), picked.to(torch.float64)])  # one transfer; both exact
        written, logprobs = numbers_of.tolist()
        tokens = [int(token) for token in written]
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.finish = self._rules.finish(row.tokens, row.most_tokens)
            if self._watcher is not None:
                self._watcher.token(row.prompt, row.index, token)
        return tokens

    def _uniforms(self, rows: Sequence[ActiveSequence]) -> NDArray[np.float64]:
        """[R] one number for the next token of every row."""
        keys = np.array([self.prompts[row.prompt].key for row in rows], dtype=np.int64)
        indices = np.array([row.index for row in rows], dtype=np.int64)
        places = np.array([len(row.tokens) for row in rows], dtype=np.int64)
        return uniform(self.params.seed, self._step, keys, indices, places)

    def close(self, row: ActiveSequence, dtype: torch.dtype) -> None:
        """A row is finished; with the last one of its prompt, the group is. `dtype` is that of log-probabilities."""
        rows = self._finished[row.prompt]
        rows.append(row)
        if len(rows) < self.n:
            return
        del self._finished[row.prompt]
        ordered = sorted(rows, key=lambda each: each.index)
        responses = tuple(self._response(each, dtype) for each in ordered)
        group = Group(prompt=self.prompts[row.prompt].tokens, responses=responses)
        self._groups[row.prompt] = group
        if self._watcher is not None:
            self._watcher.group(row.prompt, group)

    def groups(self) -> list[Group]:
        """In the order of the prompts."""
        return [self._groups[place] for place in range(len(self.prompts))]

    def _response(self, row: ActiveSequence, dtype: torch.dtype) -> Response:
        size = len(row.tokens)
        return Response(
            tokens=torch.tensor(row.tokens),
            trainable=torch.ones(size, dtype=torch.bool),
            sampler_logprobs=torch.tensor(row.logprobs, dtype=dtype),
            policy_version=torch.full((size,), self._step),
            finish=row.finish,
        )
