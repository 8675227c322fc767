"""A sampler elsewhere, in miniature: a copy of the policy, in a thread of its own, that may lag behind.

Recipes name its stages ``remote.py:RemoteRl`` and ``remote.py:StaleRl``.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.sampling.base import EVALUATED, Sampler, SampleRequest, StreamListener
from burnish.sampling.open import sampler_of
from burnish.sampling.params import SamplingParams
from burnish.stages.on_policy.data import OnPolicyData
from burnish.stages.rl.build import Rl
from burnish.types import Group

T = TypeVar("T")
DEADLINE = 120.0
"""Longest wait for the thread, seconds."""

Weights = dict[str, Tensor]


class RemoteSampler:
    """Sampler with weights of its own, which are those published `max_staleness` steps ago."""

    def __init__(self, policy: Model, engine: Callable[[Model], Sampler], *, max_staleness: int = 0) -> None:
        """
        Args:
            policy: is copied.
            engine: makes the sampler that runs in the thread, of the copy.
            max_staleness: number of published versions by which the weights are behind.
        """
        self._replica = replace(policy, model=copy.deepcopy(policy.model))
        self._engine = engine(self._replica)
        self.end_tokens, self.max_positions = self._engine.end_tokens, self._engine.max_positions
        self.max_staleness, self.deterministic = max_staleness, max_staleness == 0
        self._published: deque[tuple[int, Weights]] = deque(maxlen=max_staleness + 1)
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))

    def publish(self, policy: Model, version: int) -> int:
        weights = {name: tensor.detach().clone() for name, tensor in policy.model.state_dict().items()}
        if version == EVALUATED:
            self._load(version, weights)
            assert whole_fingerprint(self._replica) == whole_fingerprint(policy), "the copy is exact"
            return version
        if not self._published or self._published[-1][0] != version:
            self._published.append((version, weights))
        self._load(*self._published[0])
        return self._published[0][0]

    def _load(self, version: int, weights: Weights) -> None:
        def load() -> None:
            self._replica.model.load_state_dict(weights)
            self._engine.publish(self._replica, version)

        self._in_thread(load)

    def sample(
        self,
        requests: Sequence[SampleRequest],
        n: int,
        params: SamplingParams,
        *,
        step: int = 0,
        listener: StreamListener | None = None,
    ) -> list[Group]:
        return self._in_thread(lambda: self._engine.sample(requests, n, params, step=step, listener=listener))

    def _in_thread(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result(timeout=DEADLINE)


class RemoteRl(Rl):
    """Stage rl whose responses come from a sampler elsewhere, with the newest weights."""

    max_staleness = 0

    def sampler(self, data: OnPolicyData, policy: Model, end_tokens: Collection[int]) -> Sampler:
        limit = data.context.reader.max_length
        return RemoteSampler(
            policy, lambda replica: sampler_of(replica, end_tokens, limit), max_staleness=self.max_staleness
        )


class StaleRl(RemoteRl):
    """Its weights are one step behind."""

    max_staleness = 1
