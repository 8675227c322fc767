"""What is checked: the recipe, its rows as the run would learn them, its model, and copies of it that may be changed.

Everything is opened when a check first asks for it, by the functions that a run opens it with.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from burnish.checks.copies import Saved, copied, nudge, save
from burnish.data.dataset import TokenizedDataset
from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.model.quantization import is_quantized
from burnish.recipe.read import ResolvedRecipe
from burnish.recipe.recipe import Recipe
from burnish.settings.stage import StageSettings
from burnish.sources.annotate import LiveScorer, annotated
from burnish.stages.assemble import loss_of
from burnish.stages.open_policy import open_policy
from burnish.stages.prefer.settings import PreferSettings
from burnish.stages.reader import OpenedData
from burnish.stages.rl.settings import RlSettings
from burnish.stages.supervised_data import StageContext
from burnish.types import Group

ROWS = 1000
"""Rows that are looked at: the first that the run would draw."""
TOKENS = 1024
"""Of the groups on which the laws are tried, together, unless a single one is longer."""
GROUPS = 6
EXACT_PARAMETERS = 100_000_000
"""Up to so many, laws are tried on a float64 copy."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A stage of a recipe, with all that checks need of it. Example: ``Subject(read_recipe(path), folder).policy``.

    Nothing that a check does changes it.
    """

    origins: ResolvedRecipe
    folder: Path
    """Empty and temporary."""
    number: int = 0
    """Of the stage, from 0. Only the first one begins with a model that is there: of later ones, rows are checked."""

    @property
    def recipe(self) -> Recipe:
        return self.origins.recipe

    @property
    def stage(self) -> StageSettings:
        return self.recipe.stages[self.number].settings

    @property
    def tries(self) -> bool:
        """Whether the stage learns by trying: its rows have prompts, and no answers to learn."""
        return isinstance(self.stage, RlSettings)

    @cached_property
    def opener(self) -> StageContext:
        return StageContext.of(self.recipe, self.number)

    @cached_property
    def train(self) -> OpenedData:
        reader = self.opener.reader
        return reader.gate(reader.open(self.stage.data))[0]

    @cached_property
    def rows(self) -> TokenizedDataset:
        """The first rows of the run, in its order."""
        return self.train.drawn(ROWS, self.recipe.seed).whole()

    @cached_property
    def held_out(self) -> TokenizedDataset | None:
        """The first held-out rows; None: the recipe has none."""
        data = self.stage.eval_data
        reader = self.opener.reader
        return reader.gate_measured(reader.open(data))[0].drawn(ROWS, self.recipe.seed).whole() if data else None

    @cached_property
    def policy(self) -> Model:
        return open_policy(self.opener)

    @property
    def loss(self) -> Loss:
        """What the stage minimises."""
        return loss_of(self.stage)

    @property
    def tokens_per_microbatch(self) -> int:
        return self.opener.reader.tokens_per_microbatch

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The shortest group, the longest that is within the bound, and some by the seed; in the order of rows."""
        lengths = self.rows.lengths
        order = np.argsort(lengths, kind="stable")
        within = order[lengths[order] <= TOKENS // 2]
        drawn = np.random.default_rng([self.recipe.seed, 0xC4]).permutation(len(lengths))
        chosen = [int(order[0])]
        for index in map(int, (*within[-1:], *drawn)):
            fits = lengths[[*chosen, index]].sum() <= TOKENS
            if index not in chosen and fits and len(chosen) < GROUPS:
                chosen.append(index)
        return tuple(self.rows[index] for index in sorted(chosen))

    @cached_property
    def shared(self) -> tuple[Group, ...]:
        """The groups, and one of two responses of two rows to the prompt of the first.

        Of comparisons: the groups alone, which share prompts already, with the reference if the loss has one.
        """
        if isinstance(self.stage, PreferSettings):
            reference = LiveScorer(self.policy)
            budget = self.tokens_per_microbatch
            has = self.stage.has_reference
            return tuple(annotated(self.groups, reference.logprobs(self.groups, budget))) if has else self.groups
        first, second = self.groups[0], self.groups[min(1, len(self.groups) - 1)]
        room = max(1, self.opener.reader.max_positions - len(first.prompt))
        other = second.responses[0]
        other = replace(other, tokens=other.tokens[:room], trainable=other.trainable[:room])
        return (*self.groups, replace(first, responses=(*first.responses, other)))

    def trial(self) -> Model:
        """A copy on which laws are tried, in float64 if the model is small and computed on a CPU.

        Its adapter is not at its beginning, where it does nothing and half of its gradient is zero. Dropout is off.
        """
        policy = self.policy
        small = sum(p.numel() for p in policy.model.parameters()) <= EXACT_PARAMETERS
        exact = small and policy.device.type == "cpu" and not is_quantized(policy.model)
        trial = copied(policy, torch.float64 if exact else None)
        if self.recipe.adapter.kind != "full":
            nudge(trial)
        if self.recipe.adapter.dropout:
            trial.model.eval()
        return trial

    @cached_property
    def saved(self) -> Saved:
        """A copy with changed weights, written as the run writes its model."""
        report = self.rows.report
        policy = copied(self.policy, None)
        policy = replace(policy, tokenizer=copy.deepcopy(policy.tokenizer))
        nudge(policy)
        template = self.opener.reader.template.saved if report.conversations else None
        return save(policy, self.folder / "model", self.groups, template, report.end_tokens)

    def forget_models(self) -> None:
        """Frees the memory of all models; they are opened anew when they are asked for."""
        for name in ("policy", "saved"):
            self.__dict__.pop(name, None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # another process will need it
