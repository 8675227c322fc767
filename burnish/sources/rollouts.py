"""Source of rollouts: prompts → responses of the policy → rewards → advantages.

The sampler uses the present weights, so with one update per batch everything is on-policy. Groups whose rewards are all
equal have no gradient: they are dropped, counted, and replaced by further prompts (dynamic sampling). The state, with
the groups of a batch that wait for their update, is part of the checkpoint, so a run resumes within a batch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from burnish.credit.combine import combined
from burnish.credit.credit import zero_variance
from burnish.credit.rule import CreditRule
from burnish.data.records import Task
from burnish.errors import RunError
from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import Decode, response_views
from burnish.rewards.verdict import Verdict, count_failures
from burnish.roles.filler import StreamFiller
from burnish.sampling.base import Prompt, Sampler
from burnish.sampling.params import SamplingParams
from burnish.sources.base import Source, State
from burnish.sources.metrics import rollout_metrics
from burnish.sources.prompt_order import PromptOrder, mean
from burnish.sources.replay_buffer import ReplayBuffer
from burnish.sources.samples import GradedGroup, rollout_samples
from burnish.sources.serialization import TrainingItem, load_items, store_items
from burnish.sources.settings import RolloutSettings
from burnish.types import Group
from burnish.watch.journal_lines import RolloutSample

GradeResponses = Callable[[Sequence[Sequence[ResponseView]]], list[list[Verdict]]]
"""A `grading.reward_runner.RewardRunner`, or a function with the same signature."""


@dataclass(frozen=True, eq=False, slots=True)
class RolloutPrompt:
    """A prompt of reinforcement learning."""

    tokens: torch.Tensor
    """[P] int64, with the generation prompt at its end."""
    task: Task
    """Its task: the messages, the reference answer, and the part of the response that the prompt contains."""


@dataclass(eq=False)
class RolloutSource(Source):
    """Source of steps whose groups are sampled, graded and credited when they are needed."""

    prompts: Sequence[RolloutPrompt]
    """The prompts, at least one."""
    sampler: Sampler
    grade: GradeResponses
    decode: Decode
    """Decodes the tokens of a response to the text that rewards see, without end tokens."""
    rule: CreditRule
    params: SamplingParams
    settings: RolloutSettings
    seed: int
    epochs: float = 1.0
    max_steps: int | None = None
    """Number of steps instead of epochs; None: the length of the epochs if no group is replaced."""
    curriculum: bool = False
    fillers: Sequence[StreamFiller] = ()
    """Fill streams before credit; empty: credit and loss need only what the sampler reported."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of rewards by name, without those of weight 0; used where the rule normalizes each reward first."""
    newest: list[GradedGroup] = field(default_factory=list)
    """All graded groups of the newest batch."""

    def __post_init__(self) -> None:
        assert len(self.prompts) > 0, "there is at least one prompt"
        num_prompts = max(1, round(self.epochs * len(self.prompts)))
        self._num_steps = self.max_steps or math.ceil(num_prompts / self.settings.groups_per_step)
        self._order = PromptOrder(len(self.prompts), self.seed, self.curriculum)
        replay = self.settings.replay
        self._buffer = None if replay is None else ReplayBuffer(replay, self.seed)
        self._step = 0
        self._pending: deque[tuple[Group, ...]] = deque()
        self._metrics: dict[str, float] = {}
        self._samples: list[RolloutSample] = []

    @property
    def num_steps(self) -> int:
        return self._num_steps

    @property
    def epoch(self) -> float:
        """Number of prompts sampled so far, those of replaced groups included, over the number of prompts."""
        return self._order.position / len(self.prompts)

    def __iter__(self) -> Iterator[Sequence[Group]]:
        """The groups of each remaining step, sampled only then.

        Raises:
            RunError: none of a batch's responses could be graded.
        """
        while self._step < self._num_steps:
            self._metrics, self._samples = {}, []
            if not self._pending:
                self._pending.extend(self._batch())
            groups = self._pending.popleft()
            self._step += 1
            yield groups

    @property
    def metrics(self) -> Mapping[str, float]:
        """Rollout metrics of the newest step, see docs/glossary.md; empty: nothing was sampled for it."""
        return self._metrics

    @property
    def samples(self) -> Sequence[RolloutSample]:
        """Samples of the newest step, if they are due."""
        return self._samples

    def state_dict(self) -> State:
        tensors, pending = store_items(self._pending, "pending")
        values = {"step": self._step, "draws": self._order.state(), "pending": pending}
        if self._buffer is not None:
            replayed, values["replay"] = self._buffer.state_dict()
            tensors |= replayed
        return tensors, values

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self._step = values["step"]
        self._order.restore(values["draws"])
        self._pending = deque(load_items(tensors, values["pending"], "pending"))
        if self._buffer is not None:
            self._buffer.load_state_dict(tensors, values["replay"])

    def _batch(self) -> Iterator[tuple[Group, ...]]:
        """Samples prompts until there are enough groups for the updates, or too many were sampled."""
        settings = self.settings
        updates = min(settings.updates_per_batch, self._num_steps - self._step)
        replayed = [] if self._buffer is None else self._buffer.draw(settings.groups_per_step * updates, self._step)
        num_new = settings.groups_per_step * updates - len(replayed)
        useful: list[GradedGroup] = []
        self.newest, seconds = [], [0.0, 0.0]
        while len(useful) < num_new and len(self.newest) < settings.max_resamples * num_new:
            graded_groups = self._sample(num_new - len(useful), seconds)
            self.newest += graded_groups
            useful += [graded for graded in graded_groups if self._has_signal(graded)]
        # A batch without any signal is still a step: the other terms of the loss may have a gradient.
        items = self._items(useful or self.newest[: settings.groups_per_step])
        trained = [group for item in items for group in item]
        self._metrics = rollout_metrics(self.newest, len(useful), seconds, trained)
        if self._buffer is not None:
            ages = [float(self._step - step) for step, _ in replayed]
            self._metrics |= {"replayed": float(len(replayed)), "replayed_age": mean(ages)}
            self._buffer.add(self._step, items if useful else [])
        every = settings.log_samples_every
        if self._step // every != (self._step - settings.updates_per_batch) // every:
            self._samples = rollout_samples(self.newest, trained, self.weights, self.rule.reward_combination)
        size = math.ceil(len(items) / updates)
        starts = range(0, len(items), size)
        for number, start in enumerate(starts):
            older = [item for _, item in replayed[number :: len(starts)]]
            yield tuple(group for item in [*items[start : start + size], *older] for group in item)

    def _items(self, graded_groups: Sequence[GradedGroup]) -> list[TrainingItem]:
        """Training items of the graded groups, by the credit rule.

        Raises:
            RunError: none of their responses could be graded.
        """
        groups = [graded.group for graded in graded_groups]
        for fill in self.fillers:
            groups = fill(groups)
        items = self.rule.assign(groups, [self._rewards(graded) for graded in graded_groups])
        if not items:
            raise _nothing_graded(self.newest)
        if not self.settings.mask_truncated:
            return items
        return [tuple(_without_truncated(group) for group in item) for item in items]

    def _rewards(self, graded: GradedGroup) -> torch.Tensor:
        """[n] float64, combined rewards; nan: not graded."""
        if self.rule.reward_combination == "sum":
            return graded.reward_tensor
        weights = torch.tensor(list(self.weights.values()), dtype=torch.float64)
        return combined([graded.outcomes(list(self.weights))], weights, self.rule.reward_combination)[0]

    def _has_signal(self, graded: GradedGroup) -> bool:
        """Whether the group has a gradient: some rewards differ, and some response is trained."""
        if self.settings.mask_truncated and all(response.finish == "length" for response in graded.group.responses):
            return False
        if not self.settings.drops:
            return bool(graded.rewards)
        rewards = self._rewards(graded)
        return not zero_variance(rewards[~rewards.isnan()].tolist())

    def _sample(self, count: int, seconds: list[float]) -> list[GradedGroup]:
        """Samples and grades responses to the next prompts; adds the seconds of both."""
        first, began = self._order.position, time.perf_counter()
        rows = self._order.take(count)
        prompts = [Prompt(self.prompts[row].tokens, first + index) for index, row in enumerate(rows)]
        groups = self.sampler.sample(prompts, self.settings.responses_per_prompt, self.params, step=self._step)
        sampled = time.perf_counter()
        graded_groups = self._graded(rows, groups)
        seconds[0] += sampled - began
        seconds[1] += time.perf_counter() - sampled
        for graded in graded_groups:
            if graded.rewards:
                passed = [float(reward >= self.settings.success_threshold) for reward in graded.rewards]
                self._order.update(graded.row, mean(passed))
        return graded_groups

    def _graded(self, rows: Sequence[int], groups: Sequence[Group]) -> list[GradedGroup]:
        tasks = [self.prompts[row].task for row in rows]
        views = [response_views(task, group, self.decode) for task, group in zip(tasks, groups, strict=True)]
        graded = self.grade(views)
        return [
            GradedGroup(
                row, task, _rewarded(group, verdicts), tuple(view.written for view in responses), tuple(verdicts)
            )
            for row, task, group, responses, verdicts in zip(rows, tasks, groups, views, graded, strict=True)
        ]


def _nothing_graded(graded_groups: Sequence[GradedGroup]) -> RunError:
    failures = count_failures(verdict for graded in graded_groups for verdict in graded.verdicts)
    reasons = ", ".join(f"{part}: {kind} {count} times" for (part, kind), count in failures.most_common(3))
    return RunError(
        given=f"none of the responses to {len(graded_groups)} prompts could be graded "
        f"({reasons or 'no reward applies'})",
        rule="a failure is not a reward of 0: ungraded responses are left out, and here nothing remains",
        remedy="test the rewards on known answers first (burnish check)",
    )


def _rewarded(group: Group, verdicts: Sequence[Verdict]) -> Group:
    """The group with rewards; None where the verdict is not a number."""
    responses = [
        replace(response, reward=verdict.reward if isinstance(verdict.reward, float) else None)
        for response, verdict in zip(group.responses, verdicts, strict=True)
    ]
    return replace(group, responses=tuple(responses))


def _without_truncated(group: Group) -> Group:
    """The group with no trained tokens in truncated responses."""
    responses = [
        replace(response, trainable=torch.zeros_like(response.trainable)) if response.finish == "length" else response
        for response in group.responses
    ]
    return replace(group, responses=tuple(responses))
