"""Groups that the policy writes itself, prompts → responses → verdicts → advantages: what learning by trying takes.

The sampler uses the weights of the moment, so with one update per batch everything is on-policy. Groups in which no
response is better than another teach nothing: they are dropped, counted, and replaced by further prompts. Where it
stands is a part of the checkpoint, with responses that wait for their update; so a run goes on in the midst of a batch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from burnish.credit.combine import combined
from burnish.credit.credit import zero_variance
from burnish.credit.rule import CreditRule
from burnish.data.records import Task
from burnish.errors import RunError
from burnish.sampling.base import Prompt, Sampler
from burnish.sampling.params import SamplingParams
from burnish.sources.metrics import rollout_metrics
from burnish.sources.prompt_order import PromptOrder, mean
from burnish.sources.replay_buffer import ReplayBuffer, TrainingItem
from burnish.sources.samples import GradedGroup, RolloutSample, rollout_samples
from burnish.sources.serialization import load_group, store_group
from burnish.sources.settings import RolloutSettings
from burnish.tasks.response_view import ResponseView
from burnish.tasks.response_views import Decode, response_views
from burnish.tasks.verdict import Verdict, count_failures
from burnish.types import Group

GradeResponses = Callable[[Sequence[Sequence[ResponseView]]], list[list[Verdict]]]
"""A `tasks.judge.Judge`, or anything that is called like one."""
FillStreams = Callable[[Sequence[Group]], Sequence[Group]]
"""Gives responses log-probabilities of the reference, or of the trainer."""


@dataclass(frozen=True, eq=False, slots=True)
class RolloutPrompt:
    """A prompt that is to be learned by trying."""

    tokens: torch.Tensor
    """[P] int64, with the generation prompt behind it."""
    task: Task
    """What it means, what of the response stands in it, and what an answer is checked against."""


@dataclass(eq=False)
class RolloutSource:
    """Steps of groups with advantages, written when they are needed."""

    prompts: Sequence[RolloutPrompt]
    """At least one."""
    sampler: Sampler
    judge: GradeResponses
    decode: Decode
    """Tokens of a response → the text that rewards see, without the tokens that end it."""
    rule: CreditRule
    params: SamplingParams
    settings: RolloutSettings
    seed: int
    epochs: float = 1.0
    max_steps: int | None = None
    """Steps instead of epochs; None: as many as the epochs take if no group is replaced."""
    curriculum: bool = False
    annotate: FillStreams | None = None
    """Called before credit; None: neither credit nor loss needs more than the sampler reported."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the rewards that count, by the names of their parts; needed where the rule normalises them first."""
    newest: list[GradedGroup] = field(default_factory=list)
    """Everything that was tried for the newest batch."""

    def __post_init__(self) -> None:
        assert len(self.prompts) > 0, "there is something to try"
        wanted = max(1, round(self.epochs * len(self.prompts)))
        self._num_steps = self.max_steps or math.ceil(wanted / self.settings.groups_per_step)
        self._draws = PromptOrder(len(self.prompts), self.seed, self.curriculum)
        replay = self.settings.replay
        self._buffer = None if replay is None else ReplayBuffer(replay, self.seed)
        self._step = 0
        self._pending: deque[tuple[Group, ...]] = deque()
        self._figures: dict[str, float] = {}
        self._samples: list[RolloutSample] = []

    @property
    def num_steps(self) -> int:
        return self._num_steps

    @property
    def epoch(self) -> float:
        """Prompts that were tried, those of replaced groups included, over all prompts."""
        return self._draws.position / len(self.prompts)

    def __iter__(self) -> Iterator[Sequence[Group]]:
        """The groups of each remaining step, which are written only then.

        Raises:
            RunError: none of a batch's responses could be judged.
        """
        while self._step < self._num_steps:
            self._figures, self._samples = {}, []
            if not self._pending:
                self._pending.extend(self._batch())
            groups = self._pending.popleft()
            self._step += 1
            yield groups

    def settle(self) -> None:
        """Nothing is unseen: prompts are made ready before the first step."""

    @property
    def figures(self) -> Mapping[str, float]:
        """Of the responses that were written for the newest step: see docs/glossary.md. Empty: none were."""
        return self._figures

    @property
    def samples(self) -> Sequence[RolloutSample]:
        """Some responses of the newest step, where they are due."""
        return self._samples

    def state(self) -> dict[str, Any]:
        pending = [[store_group(group) for group in groups] for groups in self._pending]
        kept = {} if self._buffer is None else {"replay": self._buffer.state()}
        return {"step": self._step, "draws": self._draws.state(), "pending": pending, **kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._step = state["step"]
        self._draws.restore(state["draws"])
        self._pending = deque(tuple(load_group(each) for each in groups) for groups in state["pending"])
        if self._buffer is not None:
            self._buffer.restore(state["replay"])

    def _batch(self) -> Iterator[tuple[Group, ...]]:
        """Tries prompts until there are groups enough for the updates, or too many were tried."""
        settings = self.settings
        updates = min(settings.updates_per_batch, self._num_steps - self._step)
        again = [] if self._buffer is None else self._buffer.draw(settings.groups_per_step * updates, self._step)
        wanted = settings.groups_per_step * updates - len(again)
        kept: list[GradedGroup] = []
        self.newest, seconds = [], [0.0, 0.0]
        while len(kept) < wanted and len(self.newest) < settings.max_resamples * wanted:
            tried = self._try(wanted - len(kept), seconds)
            self.newest += tried
            kept += [each for each in tried if self._teaches(each)]
        # A batch in which nothing teaches anything is still a step: its gradient is that of what else the loss has.
        lessons = self._lessons(kept or self.newest[: settings.groups_per_step])
        learned = [group for lesson in lessons for group in lesson]
        self._figures = rollout_metrics(self.newest, len(kept), seconds, learned)
        if self._buffer is not None:
            ages = [float(self._step - step) for step, _ in again]
            self._figures |= {"replayed": float(len(again)), "replayed_age": mean(ages)}
            self._buffer.add(self._step, lessons if kept else [])
        every = settings.log_samples_every
        if self._step // every != (self._step - settings.updates_per_batch) // every:
            self._samples = rollout_samples(self.newest, learned, self.weights, self.rule.reward_combination)
        size = math.ceil(len(lessons) / updates)
        starts = range(0, len(lessons), size)
        for number, start in enumerate(starts):
            older = [lesson for _, lesson in again[number :: len(starts)]]
            yield tuple(group for lesson in [*lessons[start : start + size], *older] for group in lesson)

    def _lessons(self, chosen: Sequence[GradedGroup]) -> list[TrainingItem]:
        """What is learned of the prompts.

        Raises:
            RunError: nothing of them could be judged.
        """
        groups = [each.group for each in chosen]
        groups = groups if self.annotate is None else list(self.annotate(groups))
        lessons = self.rule.assign(groups, [self._worth(each) for each in chosen])
        if not lessons:
            raise _unjudged(self.newest)
        if not self.settings.mask_truncated:
            return lessons
        return [tuple(_without_cut(group) for group in lesson) for lesson in lessons]

    def _worth(self, tried: GradedGroup) -> torch.Tensor:
        """[n] float64, what responses are worth; nan: not judged."""
        if self.rule.reward_combination == "sum":
            return tried.worth
        weights = torch.tensor(list(self.weights.values()), dtype=torch.float64)
        return combined([tried.outcomes(list(self.weights))], weights, self.rule.reward_combination)[0]

    def _teaches(self, tried: GradedGroup) -> bool:
        if self.settings.mask_truncated and all(response.finish == "length" for response in tried.group.responses):
            return False
        if not self.settings.drops:
            return bool(tried.rewards)
        worth = self._worth(tried)
        return not zero_variance(worth[~worth.isnan()].tolist())

    def _try(self, count: int, seconds: list[float]) -> list[GradedGroup]:
        """Writes to the next prompts and has it judged; adds the seconds of both."""
        first, began = self._draws.position, time.perf_counter()
        rows = self._draws.take(count)
        prompts = [Prompt(self.prompts[row].tokens, first + place) for place, row in enumerate(rows)]
        groups = self.sampler.sample(prompts, self.settings.responses_per_prompt, self.params, step=self._step)
        written = time.perf_counter()
        tried = self._judged(rows, groups)
        seconds[0] += written - began
        seconds[1] += time.perf_counter() - written
        for each in tried:
            if each.rewards:
                self._draws.tell(
                    each.row, mean([float(reward >= self.settings.success_threshold) for reward in each.rewards])
                )
        return tried

    def _judged(self, rows: Sequence[int], groups: Sequence[Group]) -> list[GradedGroup]:
        tasks = [self.prompts[row].task for row in rows]
        answers = [response_views(task, group, self.decode) for task, group in zip(tasks, groups, strict=True)]
        judged = self.judge(answers)
        return [
            GradedGroup(
                row, task, _rewarded(group, verdicts), tuple(answer.written for answer in said), tuple(verdicts)
            )
            for row, task, group, said, verdicts in zip(rows, tasks, groups, answers, judged, strict=True)
        ]


def _unjudged(tried: Sequence[GradedGroup]) -> RunError:
    failures = count_failures(verdict for each in tried for verdict in each.verdicts)
    seen = ", ".join(f"{part}: {kind} {count} times" for (part, kind), count in failures.most_common(3))
    return RunError(
        given=f"none of the responses to {len(tried)} prompts could be judged ({seen or 'no reward applies'})",
        rule="a failure is not a reward of 0: what nobody could judge is left out, and here nothing remains",
        remedy="try the rewards on known answers first (burnish check)",
    )


def _rewarded(group: Group, verdicts: Sequence[Verdict]) -> Group:
    """A verdict that is no number is no reward."""
    responses = [
        replace(response, reward=verdict.reward if isinstance(verdict.reward, float) else None)
        for response, verdict in zip(group.responses, verdicts, strict=True)
    ]
    return replace(group, responses=tuple(responses))


def _without_cut(group: Group) -> Group:
    """The group, whose responses that reached the limit of tokens have no token that trains."""
    responses = [
        replace(response, trainable=torch.zeros_like(response.trainable)) if response.finish == "length" else response
        for response in group.responses
    ]
    return replace(group, responses=tuple(responses))
