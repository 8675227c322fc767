"""Opened data of a stage that learns from responses in rows: training rows, held-out rows, tokenization.

Training, `burnish data profile` and `burnish data view` all open data here, so that they see the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from burnish.data.filters import PreferenceFilters
from burnish.data.streaming import StreamingDataset
from burnish.errors import RecipeError
from burnish.model.load import load_config, load_tokenizer
from burnish.model.open import resolve_model
from burnish.recipe.read import stage_recipe
from burnish.recipe.recipe import METHODS, Recipe
from burnish.settings.stage import StageSettings, SupervisedSettings
from burnish.sources.rows import num_draws
from burnish.stages.epochs import epoch_line, share_lines, usable_of
from burnish.stages.held_out import HeldOut
from burnish.stages.reader import OpenedData, Reader
from burnish.watch.counter import count_on_terminal


@dataclass(frozen=True, eq=False, slots=True)
class StageContext:
    """A stage of a recipe, with the reader of its data for the model that it starts from."""

    recipe: Recipe
    stage: StageSettings
    reader: Reader

    @classmethod
    def of(cls, recipe: Recipe, number: int = 0, model: str | None = None) -> Self:
        """Reads the model's configuration and tokenizer, not its weights.

        Args:
            recipe: the recipe.
            number: index of the stage, from 0.
            model: the model that the stage starts from; None: the recipe's model, with the tokens and the template
                that earlier stages set.
        """
        stage = recipe.stages[number].settings
        so_far = [entry.settings for entry in recipe.stages[number if model else 0 : number + 1]]
        tokens = dict.fromkeys(token for settings in so_far for token in settings.tokens_to_add)
        templates = (settings.chat_template for settings in reversed(so_far) if settings.chat_template is not None)
        template = next(templates, None)
        begins = model or resolve_model(recipe.model)
        tokenizer, reading = load_tokenizer(begins, tuple(tokens)), stage.model_copy(update={"chat_template": template})
        return cls(recipe, stage, Reader.of(reading, begins, load_config(begins), tokenizer, recipe.seed))

    def num_draws(self, rows: int) -> int:
        """Number of rows that the stage draws, over all epochs, from this number of rows."""
        stage = self.stage
        return num_draws(
            rows, sequences_per_step=stage.draws_per_step, epochs=stage.epochs or 1.0, max_steps=stage.max_steps
        )

    def check(self) -> None:
        """Opens the data and applies the filters, to find mistakes early.

        Raises:
            DataError: the data cannot be read, their format is unknown, or a filter stops the run.
        """
        self._opened()

    def fingerprints(self) -> dict[str, str]:
        """As `SupervisedData.fingerprints`, without tokenizing rows.

        Raises:
            DataError: as `check`.
        """
        return _fingerprints(*self._opened())

    def _opened(self) -> tuple[OpenedData, OpenedData | None]:
        """Training and held-out rows that pass the filters."""
        held_out, gate = None, None
        if self.stage.eval_data:
            held_out, gate = self.reader.filter_held_out(self.reader.open(self.stage.eval_data))
        return self.reader.gate(self.reader.open(self.stage.data), gate)[0], held_out


@dataclass(frozen=True, slots=True)
class DataArtifacts:
    """Facts of a stage's data that are stored with the weights."""

    template: str | dict[str, str] | None
    """Chat template, see `Template.saved`; None: all rows were plain text."""
    end_tokens: frozenset[int]
    """Ids of tokens that end trained responses, in addition to the model's own."""
    fingerprint: str
    """sha256 of the training data."""


@dataclass(frozen=True, eq=False, slots=True)
class SupervisedData:
    """Training and held-out data of a stage."""

    opener: StageContext
    train: OpenedData
    feed: StreamingDataset
    """The groups of `train`; large datasets are still being tokenized when training begins."""
    epoch_rows: int | None
    """Number of rows of an epoch, if the feed has only those that the run draws; None: it has all rows."""
    held_out: HeldOut | None
    """Held-out data; None: there are none."""
    gate: PreferenceFilters | None = None
    """What was found among the comparisons to learn from; None: there are none."""

    @classmethod
    def of(cls, opener: StageContext) -> Self:
        """Opened before the model is loaded, so that mistakes in the data show at once."""
        assert isinstance(opener.stage, SupervisedSettings), "stages that sample their responses have `RLData`"
        progress = count_on_terminal("rows made into tokens")
        train = opener.reader.open(opener.stage.data)
        held_out = HeldOut.of(opener.stage, opener.reader, progress)
        train, gate = opener.reader.gate(train, held_out.gate if held_out else None)
        rows, draws = len(train.data.rows), opener.num_draws(len(train.data.rows))
        # The first rows of an epoch are known without reading them, unless rows may be left out.
        if draws < rows and not train.data.format.documents and not train.preparation.may_leave_out:
            drawn = train.drawn(draws, opener.recipe.seed)
            return cls(opener, train, StreamingDataset(drawn, progress), rows, held_out, gate)
        return cls(opener, train, StreamingDataset(train.preparation, progress), None, held_out, gate)

    @property
    def tokens_per_microbatch(self) -> int:
        return self.opener.reader.tokens_per_microbatch

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of training and held-out data, which must be equal when a run is resumed."""
        return _fingerprints(self.train, None if self.held_out is None else self.held_out.opened)

    @property
    def background(self) -> AbstractContextManager[object]:
        """Context manager that stops background tokenization."""
        return self.feed

    def at_work(self, folder: Path) -> AbstractContextManager[object]:
        """Context manager around training that stops background tokenization."""
        return self.feed

    def when_ready(self, then: Callable[[], None]) -> None:
        """Calls the function once all rows are tokenized."""
        self.feed.when_ready(lambda _: then())

    @property
    def learned(self) -> DataArtifacts:
        """Facts for the model's folder and the summary; waits until all rows are tokenized."""
        report = self.feed.whole().report
        template = self.opener.reader.template.saved if report.conversations else None
        return DataArtifacts(template, report.end_tokens, self.feed.whole().fingerprint)

    def report(self) -> Iterator[str]:
        """Log lines before training: the sources of a mixture, the held-out data, and the first row as it is
        trained."""
        if len(self.train.data.parts) > 1:
            yield from self.train.data.lines()
        for gate in self.gates.values():
            yield from gate.lines()
        rows, format = self.train.data.rows, self.train.data.format
        if self.epoch_rows is not None:
            yield f"the run ends within its first epoch: it reads {len(self.feed):,} of {len(rows):,} rows"
        if self.feed.prepared is None:
            yield f"{rows.source}: {len(self.feed):,} rows ({format.name}), tokenized in the background"
        yield from self._epoch()
        if self.held_out is not None:
            yield from self.held_out.groups.report.lines()
        example = "".join(f"⟦{text}⟧" if learned else text for text, learned in self.feed.example())
        yield f"the first row, with the trained part in ⟦ ⟧:\n{example}"

    def _epoch(self) -> Iterator[str]:
        """Lines with the length of an epoch, and the number of usable rows if rows may be left out."""
        per_step, draws = self.opener.stage.draws_per_step, self.epoch_rows or len(self.feed)
        if self.train.data.format.documents:
            yield epoch_line(draws, "pieces of documents", per_step)
            return
        counted = self.feed.whole() if self.train.preparation.may_leave_out else None
        yield epoch_line(draws, "rows", per_step, usable_of(counted) if counted else "")
        if counted and len(self.train.data.parts) > 1 and counted.report.usable < counted.report.rows:
            yield from share_lines(counted)

    def lines(self) -> Iterator[str]:
        """Log lines of the report of all rows; waits until they are tokenized."""
        yield from self.feed.whole().report.lines()

    def card(self) -> dict[str, object]:
        """Content of data.json for the stage: the report of each dataset."""
        train = self.feed.whole()
        measured = {} if self.held_out is None else {"held out": self.held_out.groups}
        roles = {"training": train, **measured}
        sets = [{"role": role, **prepared.report.card()} for role, prepared in roles.items()]
        mixture = list(self.train.data.lines()) if len(self.train.data.parts) > 1 else []
        gates = {role: gate.card() for role, gate in self.gates.items()}
        return {"mixture": mixture, "sets": sets, **({"gates": gates} if gates else {})}

    @property
    def gates(self) -> dict[str, PreferenceFilters]:
        """Filters with their findings, by role; empty: the stage has none."""
        by_role = {"training": self.gate, "held out": self.held_out.gate if self.held_out else None}
        return {role: gate for role, gate in by_role.items() if gate is not None}

    def unusable(self) -> str:
        """JSON lines: every invalid row that was left out, with the reason."""
        train = self.feed.whole()
        sets = [train] if self.held_out is None else [train, self.held_out.groups]
        rows = [asdict(row) for prepared in sets for row in prepared.unusable]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _fingerprints(train: OpenedData, held_out: OpenedData | None) -> dict[str, str]:
    held_out_identity = held_out.preparation.identity if held_out else ""
    return {"the data": train.preparation.identity, "the held-out data": held_out_identity}


def open_for_inspection(model: str, data: str, settings: Sequence[str], stage: str = "sft") -> OpenedData:
    """Opens data as a stage with these settings would."""
    if stage not in METHODS:
        raise RecipeError(given=f"stage {stage}", rule=f"stages are {', '.join(METHODS)}", remedy="name one of them")
    recipe = stage_recipe(stage, {"model": model, "data": data}, settings).recipe
    opener = StageContext.of(recipe)
    if not isinstance(opener.stage, SupervisedSettings):
        raise RecipeError(
            given=f"stage {stage}",
            rule="rows are shown with their trained part, and this stage trains on responses that it samples",
            remedy="view its rows with --stage sft, or run `burnish check`",
        )
    return opener.reader.open(opener.stage.data)
