"""Source of rollouts: prompts → responses of the policy → rewards → advantages.

Weights are published and responses sampled when a batch is needed, so with one update per batch everything is
on-policy. Groups without a gradient are dropped, counted, and replaced by further prompts. The state, with the groups
of a batch that wait for their update, is part of the checkpoint, so a run resumes within a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from burnish.data.prompts import TokenizedPrompt
from burnish.rewards.verdict import FailureKind, failure_lines
from burnish.rollouts.batcher import Batcher
from burnish.rollouts.failures import require_working_rewards
from burnish.rollouts.metrics import mean, replay_metrics, rollout_metrics
from burnish.rollouts.prompt_order import PromptOrder
from burnish.rollouts.samples import rollout_samples
from burnish.rollouts.serialization import load_items, store_items
from burnish.rollouts.worker import GradedGroup, Rollouts, RolloutWorker
from burnish.sources.base import Source, State
from burnish.types import Group
from burnish.watch.journal_lines import RolloutSample
from burnish.watch.parts import OnPart, no_report

_ENOUGH = 4
"""Prompts of a batch from which a reward that failed on all responses is not tried on further ones."""


@dataclass(eq=False)
class RolloutSource(Source):
    """Source of steps whose groups are sampled, graded and credited when they are needed."""

    prompts: Sequence[TokenizedPrompt]
    """The prompts, at least one."""
    worker: RolloutWorker
    batcher: Batcher
    seed: int
    epochs: float = 1.0
    max_steps: int | None = None
    """Number of steps instead of epochs; None: the length of the epochs if no group is replaced."""
    curriculum: bool = False
    newest: list[GradedGroup] = field(default_factory=list)
    """All graded groups of the newest batch."""

    def __post_init__(self) -> None:
        assert len(self.prompts) > 0, "there is at least one prompt"
        settings, num_prompts = self.batcher.settings, max(1, round(self.epochs * len(self.prompts)))
        self._num_steps = self.max_steps or settings.num_steps(num_prompts)
        self._order = PromptOrder(len(self.prompts), self.seed, self.curriculum)
        self._step = 0
        self._begun: int | None = None
        """Step after which the newest batch was sampled; None: none was, or it is not known."""
        self._pending: deque[tuple[Group, ...]] = deque()
        self._metrics: dict[str, float] = {}
        self._samples: list[RolloutSample] = []
        self._notes: list[str] = []
        self._failed: set[tuple[str, FailureKind]] = set()
        """Rewards with the kinds of failures that the log has already."""
        self._on_part: OnPart = no_report

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
            self._metrics, self._samples, self._notes = {}, [], []
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

    @property
    def notes(self) -> Sequence[str]:
        """The first failure of each reward and kind, when it occurs."""
        return self._notes

    def report_to(self, on_part: OnPart) -> None:
        self._on_part = on_part

    def can_extend(self, step: int, num_steps: int) -> bool:
        # The last batch of a run has fewer updates if fewer steps are left; batches before it are whole.
        settings = self.batcher.settings
        is_whole = self._begun is not None and self._begun + settings.updates_per_batch <= num_steps
        return is_whole or step <= num_steps + 1 - settings.steps_per_batch

    def state_dict(self) -> State:
        tensors, pending = store_items(self._pending, "pending")
        values = {"step": self._step, "draws": self._order.state(), "pending": pending, "begun": self._begun}
        values |= {"credit": credit} if (credit := self.batcher.state_dict()) else {}
        if self.batcher.buffer is not None:
            replayed, values["replay"] = self.batcher.buffer.state_dict()
            tensors |= replayed
        return tensors, values

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self._step, self._begun = values["step"], values.get("begun")
        self._order.restore(values["draws"])
        self._pending = deque(load_items(tensors, values["pending"], "pending"))
        self.batcher.load_state_dict(values.get("credit", {}))
        if self.batcher.buffer is not None:
            self.batcher.buffer.load_state_dict(tensors, values["replay"])

    def _batch(self) -> Iterator[tuple[Group, ...]]:
        """Rolls out prompts until there are enough groups for the updates, or too many were sampled."""
        batcher, settings = self.batcher, self.batcher.settings
        updates = min(settings.updates_per_batch, self._num_steps - self._step)  # in the last batch fewer may be left
        self._begun, replayed = self._step, batcher.replayed(updates, self._step)
        num_new = settings.groups_per_step * updates - len(replayed)
        self.newest, useful, rollouts = [], list[int](), list[Rollouts]()
        self.worker.publish(self._step)
        while len(useful) < num_new and len(self.newest) < settings.max_resamples * num_new:
            rollouts.append(self._roll_out(num_new - len(useful)))
            first = len(self.newest)
            self.newest += rollouts[-1].groups
            batcher.observe(rollouts[-1].groups)
            if len(self.newest) >= _ENOUGH:
                require_working_rewards(self.newest)
            useful += [index for index in range(first, len(self.newest)) if batcher.has_signal(self.newest[index])]
        # A batch without any signal is still a step: the other terms of the loss may have a gradient.
        credited = batcher.credit(self.newest, useful or range(min(settings.groups_per_step, len(self.newest))))
        self._note_failures()
        self._metrics = rollout_metrics(rollouts, len(useful), credited.groups, batcher.equal_rewards(self.newest))
        self._metrics |= batcher.metrics
        if batcher.buffer is not None:
            self._metrics |= replay_metrics(replayed, self._step)
            batcher.buffer.add(self._step, credited.items if useful else [])
        every = settings.log_samples_every
        if self._step // every != (self._step - settings.steps_per_batch) // every:
            combination = batcher.rule.reward_combination
            trains_all = settings.learns_ungraded
            self._samples = rollout_samples(
                self.newest, credited.advantages, batcher.weights, combination, trains_all=trains_all
            )
        yield from batcher.deal(credited.items, replayed, updates, self._step)

    def _note_failures(self) -> None:
        """Notes what the newest batch shows of failures of rewards for the first time."""
        lines = failure_lines([verdict for graded in self.newest for verdict in graded.verdicts])
        new = [line for key, line in lines.items() if key not in self._failed]
        self._notes += [f"{line}; such responses are left out" for line in new]
        self._failed |= lines.keys()

    def _roll_out(self, count: int) -> Rollouts:
        """Rollouts of the next prompts, whose pass rates are noted."""
        settings, first = self.batcher.settings, self._order.position
        rows = self._order.take(count)
        prompts, keys = [self.prompts[row] for row in rows], range(first, first + count)
        rollouts = self.worker(
            prompts, settings.responses_per_prompt, rng_keys=keys, step=self._step, on_part=self._on_part
        )
        for row, graded in zip(rows, rollouts.groups, strict=True):
            if graded.rewards:
                passed = [float(reward >= settings.success_threshold) for reward in graded.rewards]
                self._order.update(row, mean(passed))
        return rollouts
