"""A stage's data, opened: the rows that it names, what makes groups of them, and the feed that it learns from.

Under `run`, which learns from it, and under `burnish data profile` and `burnish data view`, which look at it: all take
it from here, so what is seen is what is trained.
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
    """A stage of a recipe, and what reads its data for the model that it begins with."""

    recipe: Recipe
    stage: StageSettings
    reader: Reader

    @classmethod
    def of(cls, recipe: Recipe, number: int = 0, model: str | None = None) -> Self:
        """The model's configuration and tokenizer are read, not its weights.

        Args:
            recipe: of which stage ``number`` is opened.
            number: from 0.
            model: where the stage begins; None: with the recipe's model, and the tokens and the template that earlier
                stages give it.
        """
        stage = recipe.stages[number].settings
        before = [each.settings for each in recipe.stages[number if model else 0 : number + 1]]
        tokens = dict.fromkeys(token for each in before for token in each.tokens_to_add)
        template = next((each.chat_template for each in reversed(before) if each.chat_template is not None), None)
        begins = model or resolve_model(recipe.model)
        tokenizer, reading = load_tokenizer(begins, tuple(tokens)), stage.model_copy(update={"chat_template": template})
        return cls(recipe, stage, Reader.of(reading, begins, load_config(begins), tokenizer, recipe.seed))

    def num_draws(self, rows: int) -> int:
        """How many of so many rows the stage draws, those of further epochs too."""
        stage = self.stage
        return num_draws(
            rows, sequences_per_step=stage.draws_per_step, epochs=stage.epochs or 1.0, max_steps=stage.max_steps
        )

    def check(self) -> None:
        """Opens the data, has comparisons pass the gate, and leaves it.

        Raises:
            DataError: it cannot be read, it is not known what its rows mean, or the gate stops them.
        """
        self._opened()

    def facts(self) -> dict[str, str]:
        """What `SupervisedData.facts` would be, without making rows into tokens.

        Raises:
            DataError: as `check`.
        """
        return _facts(*self._opened())

    def _opened(self) -> tuple[OpenedData, OpenedData | None]:
        """The rows to learn from and those to measure on, as far as they pass the gate."""
        held_out, gate = None, None
        if self.stage.eval_data:
            held_out, gate = self.reader.gate_measured(self.reader.open(self.stage.eval_data))
        return self.reader.gate(self.reader.open(self.stage.data), gate)[0], held_out


@dataclass(frozen=True, slots=True)
class DataArtifacts:
    """What is kept of a stage's data beside the weights."""

    template: str | dict[str, str] | None
    """As `Template.saved`, of conversations; None: all rows were plain text."""
    end_tokens: frozenset[int]
    """Ids with which learned responses end, beside the model's own."""
    fingerprint: str
    """sha256 of what was learned from."""


@dataclass(frozen=True, eq=False, slots=True)
class SupervisedData:
    """What a stage learns from, and what it is measured on."""

    opener: StageContext
    train: OpenedData
    feed: StreamingDataset
    """The groups of `train`; large sets are still being made ready when the training begins."""
    epoch_rows: int | None
    """Rows of an epoch, where the feed has only those that the run draws, in their order; None: it has all."""
    held_out: HeldOut | None
    """None: nothing is measured but the training itself."""
    gate: PreferenceFilters | None = None
    """What was found among the comparisons to learn from; None: there are none."""

    @classmethod
    def of(cls, opener: StageContext) -> Self:
        """Opened before the model is loaded, so that mistakes in the data show at once."""
        assert isinstance(opener.stage, SupervisedSettings), "prompts without answers are `Practice`"
        told = count_on_terminal("rows made into tokens")
        train = opener.reader.open(opener.stage.data)
        held_out = HeldOut.of(opener.stage, opener.reader, told)
        train, gate = opener.reader.gate(train, held_out.gate if held_out else None)
        rows, draws = len(train.data.rows), opener.num_draws(len(train.data.rows))
        # Which rows an epoch begins with is known without looking at them where all of them are drawn, or stop the run.
        if draws < rows and not train.data.format.documents and not train.preparation.may_leave_out:
            drawn = train.drawn(draws, opener.recipe.seed)
            return cls(opener, train, StreamingDataset(drawn, told), rows, held_out, gate)
        return cls(opener, train, StreamingDataset(train.preparation, told), None, held_out, gate)

    @property
    def tokens_per_microbatch(self) -> int:
        return self.opener.reader.tokens_per_microbatch

    @property
    def facts(self) -> dict[str, str]:
        """What is learned and measured on, by identity: a run goes on only with the same."""
        return _facts(self.train, None if self.held_out is None else self.held_out.opened)

    @property
    def beside(self) -> AbstractContextManager[object]:
        """Leaving it ends what is done beside."""
        return self.feed

    def at_work(self, folder: Path) -> AbstractContextManager[object]:
        """While the stage trains: leaving it ends what is done beside. Nothing is kept in the stage's folder."""
        return self.feed

    def when_ready(self, then: Callable[[], None]) -> None:
        """Has the function called once it is known what became of all rows."""
        self.feed.when_ready(lambda _: then())

    @property
    def learned(self) -> DataArtifacts:
        """What the model's folder and the summary say of the data; waits until all rows are ready."""
        report = self.feed.whole().report
        template = self.opener.reader.template.saved if report.conversations else None
        return DataArtifacts(template, report.end_tokens, self.feed.whole().fingerprint)

    def report(self) -> Iterator[str]:
        """Lines for people: the sources of a mixture, what is measured on, and the first row as it is trained."""
        if len(self.train.data.parts) > 1:
            yield from self.train.data.lines()
        for gate in self.gates.values():
            yield from gate.lines()
        rows, format = self.train.data.rows, self.train.data.format
        if self.epoch_rows is not None:
            yield f"the run ends within its first epoch: it reads {len(self.feed):,} of {len(rows):,} rows"
        if self.feed.prepared is None:
            yield f"{rows.source}: {len(self.feed):,} rows ({format.name}), which become tokens beside the training"
        yield from self._epoch()
        if self.held_out is not None:
            yield from self.held_out.groups.report.lines()
        example = "".join(f"⟦{text}⟧" if learned else text for text, learned in self.feed.example())
        yield f"the first row, with what is learned in ⟦ ⟧:\n{example}"

    def _epoch(self) -> Iterator[str]:
        """How long an epoch is; where rows may be left out, all are ready, and it says how many are usable."""
        per_step, draws = self.opener.stage.draws_per_step, self.epoch_rows or len(self.feed)
        if self.train.data.format.documents:
            yield epoch_line(draws, "pieces of documents", per_step)
            return
        counted = self.feed.whole() if self.train.preparation.may_leave_out else None
        yield epoch_line(draws, "rows", per_step, usable_of(counted) if counted else "")
        if counted and len(self.train.data.parts) > 1 and counted.report.usable < counted.report.rows:
            yield from share_lines(counted)

    def lines(self) -> Iterator[str]:
        """What became of the rows, for people; waits until all are ready."""
        yield from self.feed.whole().report.lines()

    def card(self) -> dict[str, object]:
        """What data.json holds of the stage: each set as its report has it."""
        train = self.feed.whole()
        measured = {} if self.held_out is None else {"held out": self.held_out.groups}
        roles = {"training": train, **measured}
        sets = [{"role": role, **prepared.report.card()} for role, prepared in roles.items()]
        mixture = list(self.train.data.lines()) if len(self.train.data.parts) > 1 else []
        gates = {role: gate.card() for role, gate in self.gates.items()}
        return {"mixture": mixture, "sets": sets, **({"gates": gates} if gates else {})}

    @property
    def gates(self) -> dict[str, PreferenceFilters]:
        """What the gate found, by role; empty: the stage has none."""
        found = {"training": self.gate, "held out": self.held_out.gate if self.held_out else None}
        return {role: gate for role, gate in found.items() if gate is not None}

    def unusable(self) -> str:
        """JSON lines: every row that was left out because it cannot be used, with the reason."""
        train = self.feed.whole()
        sets = [train] if self.held_out is None else [train, self.held_out.groups]
        rows = [asdict(row) for prepared in sets for row in prepared.unusable]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _facts(train: OpenedData, held_out: OpenedData | None) -> dict[str, str]:
    held_out_identity = held_out.preparation.identity if held_out else ""
    return {"the data": train.preparation.identity, "the held-out data": held_out_identity}


def open_for_inspection(model: str, data: str, settings: Sequence[str], stage: str = "sft") -> OpenedData:
    """Opens data as `burnish sft`, or another stage's verb, with these settings would."""
    if stage not in METHODS:
        raise RecipeError(given=f"stage {stage}", rule=f"stages are {', '.join(METHODS)}", remedy="name one of them")
    recipe = stage_recipe(stage, {"model": model, "data": data}, settings).recipe
    opener = StageContext.of(recipe)
    if not isinstance(opener.stage, SupervisedSettings):
        raise RecipeError(
            given=f"stage {stage}",
            rule="rows are shown with what is learned of them, and this stage learns from its own answers",
            remedy="look at its rows with stage=sft, or run `burnish check`",
        )
    return opener.reader.open(opener.stage.data)
