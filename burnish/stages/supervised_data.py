"""Opened data of a stage that learns from responses in rows: training rows, held-out rows, tokenization.

Training, `burnish data profile` and `burnish data view` all open data here, so that they see the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Self, TypeVar

from burnish.data.filters import PreferenceFilters
from burnish.data.in_common import rows_in_common
from burnish.data.split import Split
from burnish.data.streaming import StreamingDataset
from burnish.errors import RecipeError
from burnish.recipe.read import stage_recipe
from burnish.settings.data import DataField
from burnish.settings.stage import StageSettings, SupervisedSettings
from burnish.sources.epoch_order import num_draws
from burnish.stages.context import StageContext
from burnish.stages.data import DataArtifacts, StageData
from burnish.stages.epochs import epoch_line, share_lines, usable_of
from burnish.stages.held_out import HeldOut
from burnish.stages.reader import OpenedData, Reader
from burnish.watch.counter import count_on_terminal

T_co = TypeVar("T_co", bound=SupervisedSettings, covariant=True)


@dataclass(frozen=True, eq=False, slots=True)
class SupervisedData(StageData[T_co]):
    """Training and held-out data of a stage."""

    train: OpenedData
    feed: StreamingDataset
    """The groups of `train`; large datasets are still being tokenized when training begins."""
    epoch_rows: int | None
    """Number of rows of an epoch, if `feed` has only the rows that a short run draws; None: `feed` has all rows."""
    held_out: HeldOut | None
    """Held-out data; None: there are none."""
    gate: PreferenceFilters | None = None
    """Preference filters of the training rows, with their findings; None: the stage has no filters."""
    split: Split | None = None
    """How held-out rows were taken out of the training data; None: they were not."""

    @classmethod
    def of(cls, context: StageContext[T_co]) -> Self:
        """Opens the data.

        Raises:
            DataError: the data cannot be read, their format is unknown, a row is invalid, or a filter stops the run.
        """
        progress = count_on_terminal("rows made into tokens")
        settings, reader = context.settings, context.reader
        opened = reader.open_stage(settings.data, settings.held_out_data, settings.held_out_share)
        held_out = HeldOut.of(settings, reader, opened.held_out, progress, context.world)
        train, gate = reader.gate(opened.train, held_out.gate if held_out else None)
        rows, draws = len(train.data.rows), _num_draws(settings, len(train.data.rows))
        # The first rows of an epoch are known without reading them, unless rows may be left out.
        if draws < rows and not train.data.format.documents and not train.preparation.may_leave_out:
            drawn = train.drawn(draws, context.recipe.seed)
            return cls(context, train, StreamingDataset(drawn, progress), rows, held_out, gate, opened.split)
        feed = StreamingDataset(train.preparation, progress)
        return cls(context, train, feed, None, held_out, gate, opened.split)

    @property
    def fingerprints(self) -> dict[str, str]:
        return data_fingerprints(self.train, None if self.held_out is None else self.held_out.opened)

    @property
    def background(self) -> AbstractContextManager[object]:
        return self.feed

    def when_ready(self, then: Callable[[], None]) -> None:
        self.feed.when_ready(lambda _: then())

    @property
    def artifacts(self) -> DataArtifacts:
        report = self.feed.whole().report
        template = self.context.reader.template.saved if report.conversations else None
        return DataArtifacts(template, report.end_tokens, self.feed.whole().fingerprint)

    def report(self) -> Iterator[str]:
        """Log lines before training: the sources of a mixture, the held-out data, and the first row as it is
        trained."""
        if len(self.train.data.parts) > 1:
            yield from self.train.data.lines()
        if self.split is not None:
            yield self.split.line()
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
        per_step, draws = self.context.settings.draws_per_step, self.epoch_rows or len(self.feed)
        if self.train.data.format.documents:
            all_documents = {part.format.name for part in self.train.data.parts} == {"text"}
            yield epoch_line(draws, "pieces of documents" if all_documents else "samples", per_step)
            return
        counted = self.feed.whole() if self.train.preparation.may_leave_out else None
        yield epoch_line(draws, "rows", per_step, usable_of(counted) if counted else "")
        if counted and len(self.train.data.parts) > 1 and counted.report.usable < counted.report.rows:
            yield from share_lines(counted)

    def lines(self) -> Iterator[str]:
        """Log lines of the report of all rows; waits until they are tokenized."""
        report = self.feed.whole().report
        yield from report.lines()
        if self.context.reader.tokenizer.chat_template is not None and report.has_plain_prompts:
            yield (
                "  prompts and responses are plain text: the model's chat template is not used for them; to render "
                "them as a question and its answers: columns.question=prompt"
            )
        yield from self._in_common()

    def _in_common(self) -> Iterator[str]:
        """Lines about held-out rows that are also trained. (Filters have a rule for those of comparisons.)"""
        if self.held_out is not None and self.gate is None:
            yield from rows_in_common(self.feed.whole(), self.held_out.groups)

    def card(self) -> dict[str, object]:
        """Content of data.json for the stage: the report of each dataset."""
        train = self.feed.whole()
        measured = {} if self.held_out is None else {"held out": self.held_out.groups}
        roles = {"training": train, **measured}
        sets = [{"role": role, **prepared.report.card()} for role, prepared in roles.items()]
        sets[-1]["notes"] += [line.strip() for line in self._in_common()]
        mixture = list(self.train.data.lines()) if len(self.train.data.parts) > 1 else []
        gates = {role: gate.card() for role, gate in self.gates.items()}
        return {"mixture": mixture, "sets": sets, **({"gates": gates} if gates else {})}

    @property
    def gates(self) -> dict[str, PreferenceFilters]:
        """Filters with their findings, by role; empty: the stage has none."""
        by_role = {"training": self.gate, "held out": self.held_out.gate if self.held_out else None}
        return {role: gate for role, gate in by_role.items() if gate is not None}

    def unusable(self) -> str:
        """JSON lines: every row that was left out, with the reason."""
        train = self.feed.whole()
        sets = [train] if self.held_out is None else [train, self.held_out.groups]
        rows = [asdict(row) for prepared in sets for row in prepared.left_out]
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _num_draws(settings: SupervisedSettings, rows: int) -> int:
    """Number of rows that the stage draws, over all epochs, from this number of rows."""
    return num_draws(
        rows,
        sequences_per_step=settings.draws_per_step,
        epochs=settings.epochs or 1.0,
        max_steps=settings.max_steps,
    )


def opened_rows(
    reader: Reader, data: DataField, eval_data: DataField | None, eval_share: float | None = None
) -> tuple[OpenedData, OpenedData | None]:
    """Training and held-out rows that pass the filters, not tokenized; see `Reader.open_stage`.

    Raises:
        DataError: the data cannot be read, their format is unknown, a side of the split is empty, or a filter stops the
            run.
    """
    opened = reader.open_stage(data, eval_data, eval_share)
    held_out, gate = (None, None) if opened.held_out is None else reader.filter_held_out(opened.held_out)
    return reader.gate(opened.train, gate)[0], held_out


def data_fingerprints(train: OpenedData, held_out: OpenedData | None) -> dict[str, str]:
    """Fingerprints of training and held-out rows by name."""
    held_out_identity = held_out.preparation.identity if held_out else ""
    return {"the data": train.preparation.identity, "the held-out data": held_out_identity}


def open_for_inspection(
    model: str,
    data: object,
    overrides: Sequence[str],
    stage: str = "sft",
    settings: Mapping[str, object] = MappingProxyType({}),
) -> OpenedData:
    """Opens data as a stage with these settings would.

    Args:
        model: model whose tokenizer and template are used.
        data: as ``data`` of the stage.
        overrides: settings as ``key=value``.
        stage: name of the stage.
        settings: further settings.

    Raises:
        RecipeError: there is no such stage, or its rows have no responses.
    """
    recipe = stage_recipe(stage, {"model": model, "data": data, **settings}, overrides).recipe
    context: StageContext[StageSettings] = StageContext.of(recipe)
    if context.settings.rows_have != "responses":
        raise RecipeError(
            given=f"stage {stage}",
            rule="rows are shown with their trained part, and this stage trains on responses that it samples",
            remedy="view its rows with --stage sft, or run `burnish check`",
        )
    return context.reader.open(context.settings.data)
