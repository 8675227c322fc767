"""What a stage is measured on: its held-out rows, and some questions of them that are answered at every evaluation.

Part of `inputs`, opened before the model is loaded; `assemble` makes the loop's evaluators of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from burnish.data.dataset import TokenizedDataset
from burnish.data.filters import PreferenceFilters, tags_of
from burnish.data.sample_builder import SampleBuilder
from burnish.errors import DataError
from burnish.evaluate.accuracy import Question, questions, require_comparable
from burnish.evaluate.evaluator import Evaluator
from burnish.evaluate.generation_eval import GenerationEval
from burnish.evaluate.held_out import HeldOutLoss
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.model.stop_tokens import stop_tokens_of
from burnish.settings.stage import SupervisedSettings
from burnish.stages.reader import OpenedData, Reader
from burnish.types import Group

MAX_NEW_TOKENS = 128
"""The default of evaluation.max_new_tokens."""


@dataclass(frozen=True, eq=False, slots=True)
class HeldOut:
    """Held-out rows, ready to measure on."""

    settings: SupervisedSettings
    opened: OpenedData
    groups: TokenizedDataset
    """All groups: what the loss is measured on."""
    asked: tuple[Question, ...]
    """In the order of their rows; empty: none is asked."""
    gate: PreferenceFilters | None = None
    """What was found among comparisons; None: there are none."""

    @classmethod
    def of(cls, settings: SupervisedSettings, reader: Reader, told: Callable[[int, int], None]) -> Self | None:
        """None: the stage has no held-out rows.

        Args:
            settings: of the stage.
            reader: of its data.
            told: called with the rows done and all rows while they are made into tokens.

        Raises:
            DataError: the rows cannot be used, or ask nothing and are to be asked.
        """
        if settings.eval_data is None:
            return None
        opened, gate = reader.gate_measured(reader.open(settings.eval_data))
        groups = opened.preparation.whole(told=told)
        asked = _asked(settings, reader, opened, groups) if settings.evaluation.generations else ()
        return cls(settings, opened, groups, asked, gate)

    @property
    def tags(self) -> list[list[str]]:
        """Of each group, the tags of its row; empty: no row has any, or they come from a mixture."""
        rows = self.opened.data.rows
        found = [tags_of(rows[row].get("tags")) for row in self.groups.picked.group_rows.tolist()]
        return found if any(found) else []

    def evaluators(
        self, policy: Model, loss: Loss, budget: int, rows: Sequence[Group] | None = None
    ) -> Sequence[Evaluator]:
        """The loss, in microbatches of so many tokens, and the questions, for the model that answers them.

        Args:
            policy: the model.
            loss: what the stage minimises.
            budget: most tokens of a microbatch.
            rows: the groups with what the loss needs beside tokens; None: as they are.
        """
        measured = HeldOutLoss(self.groups if rows is None else rows, loss, budget)
        if not self.asked:
            return (measured,)
        template = self.opened.preparation.maker.writer.template
        generation, learned = policy.causal_lm.generation_config, self.groups.report.end_tokens
        exam = GenerationEval(
            questions=self.asked,
            match=self.settings.evaluation.match or "exact",
            max_new_tokens=self.settings.evaluation.max_new_tokens or MAX_NEW_TOKENS,
            end_tokens=stop_tokens_of(generation, policy.tokenizer, template, learned),
        )
        return measured, exam


def _asked(
    settings: SupervisedSettings, reader: Reader, opened: OpenedData, groups: TokenizedDataset
) -> tuple[Question, ...]:
    """The questions of a stage that asks some: of its held-out rows that can be used, or of the set that it names."""
    maker, rows = opened.preparation.maker, sorted(set(groups.picked.rows.tolist()))
    if settings.evaluation.prompts_data is not None:
        maker = replace(reader, reading=settings.of_answers).open(settings.evaluation.prompts_data).preparation.maker
        rows = list(range(len(maker.rows)))
    order = np.random.default_rng([reader.seed, 0xE7A]).permutation(rows).tolist()
    asked = _drawn(maker, order, settings.evaluation.generations)
    _require_questions(asked, maker.rows.source)
    require_comparable(asked, settings.evaluation.match or "exact", "evaluation.match")
    return asked


def _drawn(maker: SampleBuilder, order: Sequence[int], count: int) -> tuple[Question, ...]:
    """The questions of the first rows in that order that ask something, at most so many, in the order of the rows."""
    found: list[Question] = []
    if maker.format.documents:  # they ask nothing, and there may be many
        return ()
    while len(found) < count and order:
        taken = count - len(found)
        found += questions(maker, order[:taken])
        order = order[taken:]
    return tuple(sorted(found, key=lambda question: question.row))


def _require_questions(asked: Sequence[Question], source: str) -> None:
    if not asked:
        raise DataError(
            given=f"evaluation.generations, and the rows of {source} ask nothing",
            rule="what is asked is the prompt of a row's last answer; documents have none",
            remedy="set evaluation.generations=0, or name held-out rows with prompts",
        )
