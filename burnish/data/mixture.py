"""Mixture of the data sources of a stage, by weights and counts.

Uses `read` and `formats`, and is used by `dataset`. Every source is read and recognized separately; a mixture is one
set of rows. The repetitions of rows are drawn once, by the seed; the order is drawn anew every epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from burnish.config.user_code import is_user_code
from burnish.data.formats.format import Dialect, Format, Renamed, Stage
from burnish.data.formats.prompt_template import Templated
from burnish.data.formats.recognize import READY, check_mapping, recognize, recognize_scores
from burnish.data.read import read_rows
from burnish.data.reading.stored import StoredRows
from burnish.data.row import Row
from burnish.data.rows import Indices, Rows, joined_sizes
from burnish.data.sample import sample, split_count
from burnish.data.settings import DataSource, is_stored_rows
from burnish.errors import DataError


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """Opened source of a mixture."""

    name: str
    rows: Rows
    """Rows of the source, repeated by its weight."""
    format: Format
    source: DataSource
    """The settings of the source."""
    num_rows: int
    """Number of rows before they are repeated."""

    @property
    def description(self) -> str:
        """Line for the log: rows, format, weight, unused columns."""
        source = self.source
        alone = source.name is None or is_stored_rows(source.path)
        name = self.name if alone else f"{source.name} ({source.path})"
        repetition = "" if source.weight == 1 else f", weight {source.weight:g}: {len(self.rows):,} in an epoch"
        unused = self.format.unused(self.rows.columns) if self.format.dialects else ()
        without = f"; columns without use: {', '.join(unused)}" if unused else ""
        return f"{name}: {self.num_rows:,} rows of the format {self.format.name}{repetition}{without}"


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    """Rows of a stage, with their format."""

    rows: Rows
    format: Format
    parts: tuple[Part, ...]
    """The sources, at least one."""

    def lines(self) -> Iterator[str]:
        """Yields a description of each source for the log."""
        yield from (part.description for part in self.parts)

    def picked(self, indices: Sequence[Indices], num_rows: Sequence[int]) -> Data:
        """The data with only some rows of each source.

        Args:
            indices: indices of the rows of each source, in this order.
            num_rows: number of different rows among them.
        """
        parts = tuple(
            replace(part, rows=part.rows.pick(chosen), num_rows=count)
            for part, chosen, count in zip(self.parts, indices, num_rows, strict=True)
        )
        return replace(self, rows=parts[0].rows if len(parts) == 1 else Mixture(parts), parts=parts)


def open_data(sources: Sequence[DataSource], *, seed: int = 0, stage: Stage | None = "sft") -> Data:
    """Opens all sources, and mixes several into one set of rows.

    Example: ``open_data([DataSource(path="a.jsonl", weight=2), DataSource(path="b.csv", count=500)], seed=1)``.
    """
    assert sources, "data has at least one source"
    parts = tuple(_open(source, seed, stage) for source in sources)
    if len(parts) == 1:
        return Data(parts[0].rows, parts[0].format, parts)
    names = [part.name for part in parts]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(
            given=f"two sources are called {twice[0]!r}",
            rule="the sources of a mixture have different names",
            remedy="give each a name: {path: ..., name: ...}, or make them one source with a weight",
        )
    mixture = Mixture(parts)
    ready = recognize(mixture.columns)
    kinds = dict.fromkeys(part.format.name for part in parts)
    documents = any(part.format.documents for part in parts)
    return Data(mixture, replace(ready, name=", ".join(kinds), documents=documents), parts)


@dataclass(frozen=True, eq=False, slots=True)
class Mixture(Rows):
    """Rows of several sources in sequence, each converted by its own format."""

    parts: tuple[Part, ...]
    source: str = field(init=False)
    columns: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False)
    _stops: Indices = field(init=False)
    """Cumulative number of rows of the parts."""

    def __post_init__(self) -> None:
        digest = hashlib.sha256(b"burnish mixture 1\n")
        for part in self.parts:
            digest.update(f"{part.rows.fingerprint} {part.format.name} {part.format.identity}\n".encode())
        object.__setattr__(self, "source", ", ".join(part.name for part in self.parts))
        object.__setattr__(self, "columns", (READY,))
        object.__setattr__(self, "fingerprint", digest.hexdigest())
        object.__setattr__(self, "_stops", np.cumsum([len(part.rows) for part in self.parts]))

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        part, at = self._locate(index)
        return {READY: part.format.convert(part.rows[at])}

    @property
    def sizes(self) -> Indices | None:
        return joined_sizes([part.rows for part in self.parts])

    def where(self, index: int) -> str:
        part, at = self._locate(index)
        return part.rows.where(at)

    def source_of(self, index: int) -> str:
        return self._locate(index)[0].name

    def _locate(self, index: int) -> tuple[Part, int]:
        at = range(len(self))[index]
        which = int(np.searchsorted(self._stops, at, side="right"))
        return self.parts[which], at - (int(self._stops[which - 1]) if which else 0)


@dataclass(frozen=True, eq=False, slots=True)
class NamedRows(Rows):
    """Rows of a source under the name that the user gives it."""

    rows: Rows
    source: str
    columns: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self.rows.columns)
        object.__setattr__(self, "fingerprint", self.rows.fingerprint)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return self.rows[index]

    @property
    def sizes(self) -> Indices | None:
        return self.rows.sizes

    def where(self, index: int) -> str:
        return self.rows.where(index)

    def pick(self, indices: Sequence[int] | Indices) -> NamedRows:
        return NamedRows(self.rows.pick(indices), self.source)


def _open(source: DataSource, seed: int, stage: Stage | None) -> Part:
    counted = split_count(source.path)[1]
    if source.count is not None and counted is not None:
        raise DataError(
            given=f"{source.path} with count {source.count}",
            rule="the number of rows is given once",
            remedy=f"remove #{counted}, or count",
        )
    rows = read_rows(source.path, seed=seed, split=source.split, documents=source.documents, stream=source.stream)
    if isinstance(rows, StoredRows) and source.name is not None:
        rows = rows.named(source.name)
    drawn = rows if source.count is None else sample(rows, source.count, seed)
    format = _templated(source, _format(source, rows.columns, stage), stage)
    weighted = drawn if source.weight == 1 else drawn.pick(repeated(len(drawn), source.weight, seed))
    named = weighted if source.name is None else NamedRows(weighted, source.name)
    path = rows.source if is_stored_rows(source.path) else source.path  # a stored file is none of the user's
    return Part(source.name or path, named, format, source, len(drawn))


def repeated(size: int, weight: float, seed: int) -> Indices:
    """Returns indices of ``size`` rows, repeated by the weight, ascending; at least one."""
    assert weight > 0, "a weight is positive"
    whole = int(weight)
    extra = round((weight - whole) * size)
    extra = max(extra, 1) if whole == 0 else extra
    times = np.full(size, whole, np.int64)
    times[np.random.default_rng([seed, 0xA7]).permutation(size)[:extra]] += 1
    return np.repeat(np.arange(size), times)


def _format(source: DataSource, columns: Sequence[str], stage: Stage | None) -> Format:
    if not source.columns:
        return _recognized(source, columns, stage)
    if source.format is not None and is_user_code(source.format):
        raise DataError(
            given=f"format: {source.format} with columns: {dict(source.columns)}",
            rule="a function of your own sees the columns of the file as they are",
            remedy="remove columns, or rename in the function",
        )
    check_mapping(source.columns, columns)
    names = {column: name for name, column in source.columns.items()}
    hidden = set(source.columns) - set(names)
    visible = [names.get(column, column) for column in columns if column not in hidden]
    return _mapped(_recognized(source, visible, stage), source.columns)


def _templated(source: DataSource, format: Format, stage: Stage | None) -> Format:
    """The format with the source's template of prompts."""
    template = source.prompt_template
    if template is None:
        return format
    if stage not in ("rl", None):
        raise DataError(
            given=f"prompt_template, and rows for {stage}",
            rule="a template writes prompts that a model answers, in rl, ppo, distill, generate and eval",
            remedy="remove prompt_template; format: file.py:function changes rows for other stages",
        )
    return replace(format, convert=Templated(template, format.convert), identity=f"{format.identity} {template!r}")


def _recognized(source: DataSource, columns: Sequence[str], stage: Stage | None) -> Format:
    if source.scores:
        return recognize_scores(columns, source.scores, given=source.columns)
    return recognize(columns, source.format, stage=stage, given=source.columns)


def _mapped(format: Format, columns: Mapping[str, str]) -> Format:
    """Adapts a format to rows whose columns have other names."""
    dialects = tuple(Dialect(tuple((columns.get(name, name), read) for name, read in d.names)) for d in format.dialects)
    takes, asked = (
        tuple(columns.get(name, name) for name in names) for names in (format.takes, format.takes_with_question)
    )
    convert = Renamed({column: name for name, column in columns.items()}, format.convert)
    identity = f"{format.identity} {sorted(columns.items())}"
    return replace(
        format, dialects=dialects, takes=takes, takes_with_question=asked, convert=convert, identity=identity
    )
