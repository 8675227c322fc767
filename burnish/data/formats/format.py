"""Format of rows: the required columns, and the conversion of a row to an example."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from burnish.data.records import AnyExample
from burnish.data.row import Row

Stage = Literal["sft", "prefer", "reward", "rl"]
"""Stages of training that use rows."""

QUESTIONS = frozenset({"question", "problem", "query", "instruction"})
"""Columns with a user's message."""

MEDIA_COLUMNS = ("image", "images")
"""Columns with images, which every format takes; `image` may have another meaning, and is then without use."""
Convert = Callable[[Row], AnyExample]
"""Converts a row to an example; raises DataError for a row that does not fit. Picklable."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Set of columns that is sufficient for a format. Example: ``Dialect.of("problem>question solution>answer")``."""

    names: tuple[tuple[str, str], ...]
    """(Column of the row, canonical name that `convert` reads)."""
    rank: int = 0
    """Priority where several of a format fit: the lowest rank wins."""

    @classmethod
    def of(cls, written: str, rank: int = 0) -> Dialect:
        """Parses columns separated by spaces; ``column>name`` where the canonical name differs."""
        pairs = (part.partition(">") for part in written.split())
        return cls(tuple((column, name or column) for column, _, name in pairs), rank)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for column, _ in self.names)

    @property
    def is_canonical(self) -> bool:
        return all(column == name for column, name in self.names)

    def __str__(self) -> str:
        return " + ".join(self.columns)


@dataclass(frozen=True, slots=True)
class Format:
    """Format of examples as rows."""

    name: str
    dialects: tuple[Dialect, ...]
    """Sets of columns, each sufficient. Messages show the first."""
    convert: Convert
    """Converts a row with the canonical column names."""
    stages: tuple[Stage, ...]
    """Stages that use such rows, the main one first."""
    takes: tuple[str, ...] = ()
    """Optional columns."""
    takes_with_question: tuple[str, ...] = ()
    """Optional columns that are read beside a question or an instruction, but not beside a prompt or messages."""
    rank: int = 0
    """Priority where several formats fit: the lowest rank wins."""
    named_only: bool = False
    """True: used only if the user names it."""
    documents: bool = False
    """True: a row may be a document, which is cut into pieces."""
    convert_prompt: Convert | None = None
    """Converts a row to a task, where a prompt without an answer is a row too; None: `convert` does."""
    keeps_columns: bool = False
    """True: all other columns are passed on, so that none is without use."""
    identity: str = ""
    """Other inputs of the conversion than the name (column names, a user's function), for cache keys."""

    def unused(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Returns the columns that the format does not use. Which ones a user's function reads is unknown."""
        return () if self.keeps_columns or not self.dialects else self.unread(columns)

    def unread(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Returns the columns that the conversion does not read, also those that are passed on."""
        given = tuple(columns)
        asked = "prompt" not in given and not QUESTIONS.isdisjoint(given)
        used = {"images", *self.takes, *(self.takes_with_question if asked else ())}
        used.update(column for dialect in self.dialects for column in dialect.columns)
        return tuple(column for column in given if column not in used)

    def fitting(self, columns: Iterable[str], given: Container[str] = ()) -> list[Dialect]:
        """Returns those of `present` with the lowest rank."""
        present = self.present(columns, given)
        return [one for one in present if one.rank == min(other.rank for other in present)]

    def present(self, columns: Iterable[str], given: Container[str] = ()) -> list[Dialect]:
        """Returns the dialects whose columns are present, without subsets of a larger one.

        A canonical name in ``given`` has a column by the user's mapping: no dialect reads it from another column.
        """
        present = set(columns)
        fitting = [
            dialect
            for dialect in self.dialects
            if set(dialect.columns) <= present
            and not any(name in given and name != column for column, name in dialect.names)
        ]
        return [one for one in fitting if not any(set(one.columns) < set(other.columns) for other in fitting)]

    def for_stage(self, stage: Stage | None) -> Format:
        """Returns the format for rows of a stage: in `rl` they are prompts."""
        if stage != "rl" or self.convert_prompt is None:
            return self
        return replace(self, convert=self.convert_prompt, keeps_columns=True, identity=f"{self.identity} prompts")

    def for_dialect(self, dialect: Dialect) -> Format:
        """Returns the format for rows of one dialect."""
        if dialect.is_canonical and dialect == self.dialects[0]:
            return replace(self, dialects=(dialect,))
        convert = self.convert if dialect.is_canonical else Renamed(dict(dialect.names), self.convert)
        return replace(self, dialects=(dialect,), convert=convert, identity=f"{self.identity} {dialect.names}")

    def __str__(self) -> str:
        return f"{self.name} ({' or '.join(map(str, self.dialects))})"


@dataclass(frozen=True, slots=True)
class Renamed:
    """Conversion of rows after renaming their columns."""

    names: Mapping[str, str]
    """Column of the row -> canonical name. A column that already has such a name is hidden."""
    convert: Convert

    def __call__(self, row: Row) -> AnyExample:
        return self.convert(renamed(row, self.names))


def renamed(row: Row, names: Mapping[str, str]) -> Row:
    """Renames the columns of a row."""
    hidden = set(names.values())
    others = {column: value for column, value in row.items() if column not in names and column not in hidden}
    return others | {name: row[column] for column, name in names.items() if column in row}
