"""Data as a stage would train on them: rows with their trained tokens, and statistics (`burnish data view` and
`profile`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.console import Console

from burnish.data.cache import samples_of
from burnish.data.dataset import DatasetSpec
from burnish.data.profile import Profile
from burnish.data.profile import profile as profile_of
from burnish.data.profile_page import ProfileTables
from burnish.data.view import RowView, longest_rows, page, rows_with, view_rows
from burnish.errors import RecipeError
from burnish.stages.reader import OpenedData
from burnish.stages.supervised_data import open_for_inspection
from burnish.watch.counter import count_on_terminal

_COUNTING = "rows made into tokens"


@dataclass(frozen=True, slots=True)
class DataView(Sequence[RowView]):
    """Rows as they are trained. Prints as text, and renders as a page in Jupyter."""

    source: str
    views: tuple[RowView, ...]

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # an overload for slices would say no more
        return self.views[index]

    def __iter__(self) -> Iterator[RowView]:
        return iter(self.views)

    def __str__(self) -> str:
        return "".join(view.plain() for view in self.views)

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """A self-contained HTML page."""
        return page(self.source, self.views)


@dataclass(frozen=True, slots=True)
class DataProfile:
    """Statistics of a dataset. Prints as tables."""

    lines: tuple[str, ...]
    """What was read."""
    statistics: Profile

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=100, highlight=False)
        for line in self.lines:
            console.print(line, markup=False)
        console.print(ProfileTables(self.statistics))
        assert isinstance(console.file, StringIO), "the console writes into memory"
        return console.file.getvalue()


def view(
    model: str,
    data: object,
    *,
    stage: str = "sft",
    index: Sequence[int] = (),
    search: str | None = None,
    longest: int | None = None,
    count: int = 3,
    settings: Mapping[str, object] | None = None,
    overrides: Sequence[str] = (),
) -> DataView:
    """Rows as a stage would train on them.

    Args:
        model: model whose tokenizer and template are used.
        data: as ``data`` of the stage.
        stage: the stage.
        index: rows to show, from 0.
        search: text that the rows contain.
        longest: number of rows with the most tokens.
        count: number of rows without `index` and `longest`.
        settings: settings of the stage.
        overrides: the same as ``key=value``.

    Raises:
        UserError: the data or the model cannot be used, or more than one choice of rows is given.
    """
    if sum((bool(index), search is not None, longest is not None)) > 1:
        raise RecipeError(
            given="several of index, search and longest",
            rule="each of them chooses the rows that are shown",
            remedy="give one of --index, --search and --longest (from Python: index, search, longest)",
        )
    opened = _open(model, data, stage, settings, overrides)
    preparation = opened.preparation
    rows = _rows(preparation, index, search, longest, count)
    views = tuple(row_view for row in rows for row_view in view_rows(preparation, row))
    return DataView(preparation.builder.rows.source, views)


def _rows(
    preparation: DatasetSpec, index: Sequence[int], search: str | None, longest: int | None, count: int
) -> Sequence[int]:
    builder = preparation.builder
    if search is not None:
        return rows_with(builder, search, count)
    if longest is not None:
        return longest_rows(samples_of(builder, told=count_on_terminal(_COUNTING)), longest)
    return index or range(min(count, len(builder.rows)))


def profile(
    model: str,
    data: object,
    *,
    stage: str = "sft",
    settings: Mapping[str, object] | None = None,
    overrides: Sequence[str] = (),
) -> DataProfile:
    """Statistics of a dataset: lengths in tokens, effect and cost of each max_length, turns, duplicates, scripts.
    Arguments and errors as in `view`."""
    opened = _open(model, data, stage, settings, overrides)
    builder = opened.preparation.builder
    samples = samples_of(builder, told=count_on_terminal(_COUNTING))
    return DataProfile(tuple(opened.lines()), profile_of(builder, samples, opened.max_positions))


def _open(
    model: str, data: object, stage: str, settings: Mapping[str, object] | None, overrides: Sequence[str]
) -> OpenedData:
    return open_for_inspection(model, data, overrides, stage, settings or {})
