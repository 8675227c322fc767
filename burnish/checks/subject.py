"""Subject of the checks: a recipe, its tokenized rows, its model, and copies of the model.

Everything is opened on first access, by the functions that a run uses.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

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
from burnish.stages.context import StageContext
from burnish.stages.kind import StageKind, TrainingKind, kind_of
from burnish.stages.models import load_trained
from burnish.stages.reader import OpenedData
from burnish.stages.role import POLICY
from burnish.stages.supervised_data import opened_rows
from burnish.types import Group

ROWS = 1000
"""Number of rows that are checked, the first that the run would draw."""
TOKENS = 1024
"""Limit of the groups of the numerical checks in total, unless a single one is longer."""
GROUPS = 6
"""Limit of the number of these groups."""
EXACT_PARAMETERS = 100_000_000
"""Number of parameters up to which the numerical checks use a float64 copy."""


@dataclass(frozen=True, eq=False)
class Subject:
    """Stage of a recipe, with its data and model. Example: ``Subject(read_recipe(path), folder).policy``.

    Checks do not change it.
    """

    origins: ResolvedRecipe
    folder: Path
    """Temporary folder, empty."""
    number: int = 0
    """Index of the stage, from 0. The models of later stages do not exist yet: only their rows are checked."""

    @property
    def recipe(self) -> Recipe:
        return self.origins.recipe

    @property
    def stage(self) -> StageSettings:
        return self.recipe.stages[self.number].settings

    @property
    def kind(self) -> StageKind[Any, Any]:
        return kind_of(self.recipe.stages[self.number])

    @property
    def training(self) -> TrainingKind[Any, Any]:
        """The kind of a stage that has checks of its model."""
        kind = self.kind
        assert isinstance(kind, TrainingKind), "a stage that trains no model has no checks of one"
        return kind

    @cached_property
    def context(self) -> StageContext[Any]:
        return StageContext.of(self.recipe, self.number)

    @cached_property
    def _opened(self) -> tuple[OpenedData, OpenedData | None]:
        """Training and held-out rows that pass the filters."""
        stage = self.stage
        return opened_rows(self.context.reader, stage.data, stage.held_out_data, stage.held_out_share)

    @property
    def train(self) -> OpenedData:
        return self._opened[0]

    @cached_property
    def rows(self) -> TokenizedDataset:
        """The first rows of the run, tokenized, in its order."""
        return self.train.drawn(ROWS, self.recipe.seed).whole()

    @cached_property
    def held_out(self) -> TokenizedDataset | None:
        """The first held-out rows, tokenized; None: the recipe has none."""
        held_out = self._opened[1]
        return None if held_out is None else held_out.drawn(ROWS, self.recipe.seed).whole()

    @cached_property
    def policy(self) -> Model:
        roles = self.kind.roles(self.recipe, self.stage)
        return load_trained(self.context, next(role for role in roles if role.name == POLICY))

    @property
    def loss(self) -> Loss:
        """Loss of the stage."""
        return self.training.loss(self.stage)

    @property
    def tokens_per_microbatch(self) -> int:
        return self.context.reader.tokens_per_microbatch

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The shortest group, the longest within the limit, and some drawn by the seed; in the order of rows."""
        lengths = self.rows.lengths
        order = np.argsort(lengths, kind="stable")
        fitting = order[lengths[order] <= TOKENS // 2]
        drawn = np.random.default_rng([self.recipe.seed, 0xC4]).permutation(len(lengths))
        chosen = [int(order[0])]
        for index in map(int, (*fitting[-1:], *drawn)):
            fits = lengths[[*chosen, index]].sum() <= TOKENS
            if index not in chosen and fits and len(chosen) < GROUPS:
                chosen.append(index)
        return tuple(self.rows[index] for index in sorted(chosen))

    @cached_property
    def shared(self) -> tuple[Group, ...]:
        """The groups with all streams that the loss needs, and a group with the responses of two rows to one prompt.

        Comparisons share prompts already: of them only the groups.
        """
        groups = self.groups
        if self.stage.comparison is None:
            first, second = groups[0], groups[min(1, len(groups) - 1)]
            room = max(1, self.context.reader.max_positions - len(first.prompt))
            other = second.responses[0]
            other = replace(other, tokens=other.tokens[:room], trainable=other.trainable[:room])
            groups = (*groups, replace(first, responses=(*first.responses, other), tree=None).with_tree())
        return tuple(self.training.annotate(groups, self.policy, self.stage, self.tokens_per_microbatch))

    def trial(self) -> Model:
        """Copy for the numerical checks, in float64 if the model is small and on a CPU.

        Its adapter is perturbed, since a new one has no effect and half of its gradient is zero. Dropout is off.
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
        """Perturbed copy, saved as the run saves its model."""
        report = self.rows.report
        policy = copied(self.policy, None)
        policy = replace(policy, tokenizer=copy.deepcopy(policy.tokenizer))
        nudge(policy)
        template = self.context.reader.template.saved if report.conversations else None
        return save(policy, self.folder / "model", self.groups, template, report.end_tokens)

    def forget_models(self) -> None:
        """Frees the memory of all models; they are loaded again on the next access."""
        for name in ("policy", "saved"):
            self.__dict__.pop(name, None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # another process will need it
