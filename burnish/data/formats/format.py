"""What a format is: the columns that it needs, and what a row of them means."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from burnish.data.records import AnyExample
from burnish.data.row import Row

Stage = Literal["sft", "prefer", "reward", "rl"]
"""The stages that learn from rows."""

Convert = Callable[[Row], AnyExample]
"""A row's meaning; raises DataError for a row that does not fit. It can be pickled."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A set of columns that is enough for a format. Example: ``Dialect.of("problem>question solution>answer")``."""

    names: tuple[tuple[str, str], ...]
    """(Column of the row, name under which `convert` reads it)."""

    @classmethod
    def of(cls, written: str) -> Dialect:
        """Columns with spaces between; ``column>name`` where `convert` has another name for it."""
        pairs = (part.partition(">") for part in written.split())
        return cls(tuple((column, name or column) for column, _, name in pairs))

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
    """One way of writing examples as rows."""

    name: str
    dialects: tuple[Dialect, ...]
    """Sets of columns, each of which is enough. The first is shown to people."""
    convert: Convert
    """A row's meaning, from columns with the canonical names."""
    stages: tuple[Stage, ...]
    """The stages that learn from such rows."""
    takes: tuple[str, ...] = ()
    """Columns that it uses where they are there."""
    rank: int = 0
    """Where several formats fit, those of the lowest rank count."""
    named_only: bool = False
    """Whether it is used only if the user names it."""
    documents: bool = False
    """Whether a row may be a document, which is cut into pieces."""
    identity: str = ""
    """What else, beside the name, decides what a row becomes (names of columns, a user's function); for caches."""

    def unused(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Columns that play no part in what is learned."""
        used = {*self.takes, *(column for dialect in self.dialects for column in dialect.columns)}
        return tuple(column for column in columns if column not in used)

    def fitting(self, columns: Iterable[str], given: Container[str] = ()) -> list[Dialect]:
        """The dialects whose columns are there, without those that are part of a larger one.

        A name in ``given`` has its column already: no dialect reads it from another one.
        """
        there = set(columns)
        found = [
            dialect
            for dialect in self.dialects
            if set(dialect.columns) <= there
            and not any(name in given and name != column for column, name in dialect.names)
        ]
        return [one for one in found if not any(set(one.columns) < set(other.columns) for other in found)]

    def spoken(self, dialect: Dialect) -> Format:
        """The same format, for rows of one dialect."""
        if dialect.is_canonical and dialect == self.dialects[0]:
            return self
        convert = self.convert if dialect.is_canonical else Renamed(dict(dialect.names), self.convert)
        return replace(self, dialects=(dialect,), convert=convert, identity=f"{self.identity} {dialect.names}")

    def __str__(self) -> str:
        return f"{self.name} ({' or '.join(map(str, self.dialects))})"


@dataclass(frozen=True, slots=True)
class Renamed:
    """A conversion of rows whose columns have other names."""

    names: Mapping[str, str]
    """Column of the row -> name that the conversion reads. A column that already has such a name is hidden."""
    convert: Convert

    def __call__(self, row: Row) -> AnyExample:
        return self.convert(renamed(row, self.names))


def renamed(row: Row, names: Mapping[str, str]) -> Row:
    """The row under other names."""
    hidden = set(names.values())
    kept = {column: value for column, value in row.items() if column not in names and column not in hidden}
    return kept | {name: row[column] for column, name in names.items() if column in row}
