"""Held-out rows of a stage, and the held-out prompts of its generation evaluation.

Opened before the model is loaded; `assemble` makes the loop's evaluators from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from burnish.data.dataset import TokenizedDataset
from burnish.data.filters import PreferenceFilters, tags_of
from burnish.data.prompts import TokenizedPrompt
from burnish.data.sample_builder import SampleBuilder
from burnish.errors import DataError
from burnish.evaluate.accuracy import answerable_prompts, require_comparable
from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.generation_eval import GenerationEval
from burnish.evaluate.held_out import HeldOutLoss
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.model.stop_tokens import stop_tokens_of
from burnish.parallel.world import ONE_PROCESS, World
from burnish.sampling.open import sampler_of
from burnish.settings.stage import MAX_NEW_TOKENS, SupervisedSettings
from burnish.stages.reader import OpenedData, Reader
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class HeldOut:
    """Held-out rows, tokenized."""

    settings: SupervisedSettings
    opened: OpenedData
    groups: TokenizedDataset
    """All groups, on which the loss is measured."""
    prompts: tuple[TokenizedPrompt, ...]
    """Prompts for generation, in the order of their rows; empty: no generation."""
    gate: PreferenceFilters | None = None
    """Filters of comparisons with their findings; None: there are no comparisons."""
    world: World = ONE_PROCESS
    """Processes that share the microbatches."""

    @classmethod
    def of(
        cls,
        settings: SupervisedSettings,
        reader: Reader,
        rows: OpenedData | None,
        progress: Callable[[int, int], None],
        world: World = ONE_PROCESS,
    ) -> Self | None:
        """Filters and tokenizes the held-out rows; None: the stage has none.

        Args:
            settings: settings of the stage.
            reader: reader of its data.
            rows: the held-out rows; None: there are none.
            progress: called with the number of rows tokenized and of all rows.
            world: processes that evaluate together.

        Raises:
            DataError: the rows cannot be used, or have no prompts for generation.
        """
        if rows is None:
            return None
        opened, gate = reader.filter_held_out(rows)
        groups = opened.preparation.whole(told=progress)
        drawn = _prompts(settings, reader, opened, groups) if settings.evaluation.generations else ()
        return cls(settings, opened, groups, drawn, gate, world)

    @property
    def tags(self) -> list[list[str]]:
        """Tags of each group's row; empty: no row has any, or they come from a mixture."""
        rows = self.opened.data.rows
        tags = [tags_of(rows[row].get("tags")) for row in self.groups.picked.group_rows.tolist()]
        return tags if any(tags) else []

    def evaluators(
        self, policy: Model, loss: Loss, budget: int, rows: Sequence[Group] | None = None
    ) -> Sequence[Evaluator]:
        """Evaluators of the held-out loss and, if there are prompts, of generation.

        Args:
            policy: the model.
            loss: the stage's loss.
            budget: maximum number of tokens of a microbatch.
            rows: the groups with streams that the loss needs; None: `groups`.
        """
        held_out_loss = HeldOutLoss(self.groups if rows is None else rows, loss, budget, self.world)
        if not self.prompts:
            return (held_out_loss,)
        template = self.opened.preparation.builder.writer.template
        generation, learned = policy.causal_lm.generation_config, self.groups.report.end_tokens
        ends = stop_tokens_of(generation, policy.tokenizer, template, learned)
        generation_eval = GenerationEval(
            self.prompts,
            sampler_of(policy, ends),
            match=self.settings.evaluation.match or "exact",
            max_new_tokens=self.settings.evaluation.max_new_tokens or MAX_NEW_TOKENS,
            world=self.world,
        )
        return held_out_loss, generation_eval


def _prompts(
    settings: SupervisedSettings, reader: Reader, opened: OpenedData, groups: TokenizedDataset
) -> tuple[TokenizedPrompt, ...]:
    """Prompts of the generation evaluation: of the usable held-out rows, or of evaluation.prompts_data."""
    builder, rows = opened.preparation.builder, sorted(set(groups.picked.rows.tolist()))
    if settings.evaluation.prompts_data is not None:
        builder = (
            replace(reader, reading=settings.of_answers).open(settings.evaluation.prompts_data).preparation.builder
        )
        rows = list(range(len(builder.rows)))
    order = np.random.default_rng([reader.seed, 0xE7A]).permutation(rows).tolist()
    drawn = _drawn(builder, order, settings.evaluation.generations)
    _require_prompts(drawn, builder.rows.source)
    require_comparable(drawn, settings.evaluation.match or "exact", "evaluation.match")
    return drawn


def _drawn(builder: SampleBuilder, order: Sequence[int], count: int) -> tuple[TokenizedPrompt, ...]:
    """The first `count` prompts of rows in this order, sorted by row."""
    drawn: list[TokenizedPrompt] = []
    if builder.format.documents:  # documents have no prompts, and there may be many
        return ()
    while len(drawn) < count and order:
        taken = count - len(drawn)
        drawn += answerable_prompts(builder, order[:taken])
        order = order[taken:]
    return tuple(sorted(drawn, key=lambda prompt: prompt.row))


def _require_prompts(drawn: Sequence[TokenizedPrompt], source: str) -> None:
    if not drawn:
        raise DataError(
            given=f"evaluation.generations, and the rows of {source} have no prompts",
            rule="a response is generated to the prompt of a row's last answer; documents have none",
            remedy="set evaluation.generations=0, or name held-out rows with prompts",
        )
