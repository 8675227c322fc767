"""Rollout workers: prompts → graded groups of responses. The contract, and the worker of a single turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from burnish.data.prompts import TokenizedPrompt
from burnish.errors import RunError
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import Decode, response_view, response_views
from burnish.rewards.verdict import Outcome, Verdict
from burnish.rollouts.step_rewards import with_step_rewards
from burnish.sampling.base import EVALUATED, AnsweredPrompts, Sampler, SampleRequest
from burnish.sampling.params import SamplingParams
from burnish.types import Group
from burnish.watch.parts import OnPart, no_report

Grade = Callable[[Sequence[Sequence[ResponseView]]], list[list[Verdict]]]
"""A `grading.reward_runner.RewardRunner`, or a function with the same signature."""


@dataclass(frozen=True, eq=False, slots=True)
class GradedGroup:
    """A prompt with its responses and their verdicts."""

    prompt: TokenizedPrompt
    group: Group
    """The responses with their `reward`; None where grading failed."""
    texts: tuple[str, ...]
    """Texts of the responses, without the part that the prompt contains (`Task.generation_prefix`)."""
    verdicts: tuple[Verdict, ...]

    @property
    def rewards(self) -> list[float]:
        """Rewards of the graded responses."""
        return [response.reward for response in self.group.responses if response.reward is not None]

    @property
    def reward_tensor(self) -> Tensor:
        """[n] float64, rewards; nan: not graded."""
        rewards = [math.nan if response.reward is None else response.reward for response in self.group.responses]
        return torch.tensor(rewards, dtype=torch.float64)

    def outcomes(self, parts: Sequence[str]) -> Tensor:
        """[n, K] float64, outcomes of the rewards with these names; nan: not graded by it, or the response has no
        reward."""
        outcomes = [
            [_number(verdict.parts.get(name)) if response.reward is not None else math.nan for name in parts]
            for response, verdict in zip(self.group.responses, self.verdicts, strict=True)
        ]
        return torch.tensor(outcomes, dtype=torch.float64)

    def view(self, index: int) -> ResponseView:
        """The response at this index with its prompt, as rewards see it."""
        return response_view(self.prompt.task, self.texts[index])


@dataclass(frozen=True, eq=False, slots=True)
class Rollouts:
    """Graded groups, and the time that they took."""

    groups: list[GradedGroup]
    """In the order of the prompts."""
    seconds_sampling: float
    seconds_grading: float


class RolloutWorker(Protocol):
    """Rollout worker: has prompts answered by the policy, and the responses graded."""

    @property
    def deterministic(self) -> bool:
        """Whether the same prompts, random numbers and weights give the same responses, see `Sampler`."""

    def publish(self, version: int) -> None:
        """Makes the policy's present weights those of the next rollouts, see `Sampler.publish`."""

    def __call__(
        self,
        prompts: Sequence[TokenizedPrompt],
        n: int,
        *,
        rng_keys: Sequence[int],
        step: int = 0,
        on_part: OnPart = no_report,
    ) -> Rollouts:
        """Answers and grades.

        Args:
            prompts: the prompts.
            n: number of responses to each.
            rng_keys: identity of each prompt for the random numbers, all different.
            step: optimizer step for which the responses are; enters the random numbers.
            on_part: is told how many prompts are answered.

        Raises:
            RunError: the responses are of weights that are too old.
        """


@dataclass(eq=False)
class SingleTurn:
    """Rollout worker of a single turn: one call of the sampler, then one of the graders."""

    policy: Model
    """The policy whose weights are published to the sampler."""
    sampler: Sampler
    grade: Grade
    decode: Decode
    """Decodes the tokens of a response to the text that rewards see, without end tokens."""
    params: SamplingParams
    world: World = ONE_PROCESS
    """Processes of the run; those that sample the same responses grade them once."""
    _version: int = 0

    @property
    def deterministic(self) -> bool:
        return self.sampler.deterministic

    def publish(self, version: int) -> None:
        self.sampler.publish(self.policy, version)
        self._version = version

    def __call__(
        self,
        prompts: Sequence[TokenizedPrompt],
        n: int,
        *,
        rng_keys: Sequence[int],
        step: int = 0,
        on_part: OnPart = no_report,
    ) -> Rollouts:
        began = time.perf_counter()
        requests = [
            SampleRequest(prompt.tokens, key, prompt.media) for prompt, key in zip(prompts, rng_keys, strict=True)
        ]
        listener = AnsweredPrompts(len(requests), on_part)
        groups = self.sampler.sample(requests, n, self.params, step=step, listener=listener)
        self._require_fresh(groups)
        sampled = time.perf_counter()
        views = [response_views(p.task, group, self.decode) for p, group in zip(prompts, groups, strict=True)]
        verdicts = self.world.with_same_rows(lambda: self.grade(views))
        graded = [
            GradedGroup(
                prompt,
                self._rewarded(prompt, group, responses, outcomes),
                tuple(view.written for view in responses),
                tuple(outcomes),
            )
            for prompt, group, responses, outcomes in zip(prompts, groups, views, verdicts, strict=True)
        ]
        return Rollouts(graded, sampled - began, time.perf_counter() - sampled)

    def _rewarded(
        self, prompt: TokenizedPrompt, group: Group, views: Sequence[ResponseView], verdicts: Sequence[Verdict]
    ) -> Group:
        """The group with rewards, those of steps included; None where the verdict is not a number."""
        begun = group.prompt.tolist() if prompt.task.generation_prefix else []
        responses = [
            with_step_rewards(
                replace(response, reward=verdict.reward if isinstance(verdict.reward, float) else None),
                begun,
                view,
                verdict,
                self.decode,
            )
            for response, view, verdict in zip(group.responses, views, verdicts, strict=True)
        ]
        return replace(group, responses=tuple(responses))

    def _require_fresh(self, groups: Sequence[Group]) -> None:
        """Refuses responses of weights that are older than the sampler declares."""
        versions = [response.policy_version for group in groups for response in group.responses]
        oldest = min((int(version.min()) for version in versions if version is not None), default=self._version)
        allowed = 0 if self._version == EVALUATED else self.sampler.max_staleness
        if self._version - oldest > allowed:
            raise RunError(
                given=f"responses of the weights after {oldest} steps, and the published ones are those after "
                f"{self._version} steps",
                rule=f"the sampler's weights are at most {allowed} steps behind",
                remedy="see why weights do not reach the sampler; the run resumes from its last checkpoint",
            )


def _number(outcome: Outcome) -> float:
    return outcome if isinstance(outcome, float) else math.nan
