"""What a user may write as data: one path, or sources with weights, counts, formats and columns of their own.

Under the settings of stages, which have such data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from burnish.config.settings import Settings, parse
from burnish.config.text import parse_overrides, put
from burnish.data.formats.recognize import check_name
from burnish.data.settings import DataSource
from burnish.errors import DataError
from burnish.settings.aliases import RENAMED

NOTHING: Mapping[str, str] = MappingProxyType({})


def _known_format(name: str) -> str:
    try:
        check_name(name)
    except DataError as error:
        raise ValueError(f"{error.given}; {error.rule}; {error.remedy}") from error
    return name


FormatName = Annotated[str, AfterValidator(_known_format)]
"""A format's name, or file.py:function."""


class DatasetSettings(Settings):
    """One source of a mixture. What it leaves out is as the stage says."""

    path: str
    """A file, a folder, a pattern or a hub set; #500 at its end takes 500 rows by the seed."""
    name: str | None = None
    """What its groups are called in reports; null: the path."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often each of its rows is seen in an epoch."""
    count: Annotated[int, Field(gt=0)] | None = None
    """Rows to draw by the seed; null: all."""
    format: FormatName | None = None
    """null: as the stage says."""
    columns: dict[str, str] | None = None
    """Our name: the column that has it; null: as the stage says."""
    split: str | None = None
    """Of a hub set or a folder; null: train, or the only one."""
    documents: Literal["file", "paragraph", "line"] | None = None
    """What one document of a text file is; null: as the stage says."""
    stream: Annotated[int, Field(gt=0)] | None = None
    """Of a hub set, fetch only its first so many rows; null: all."""

    @model_validator(mode="after")
    def _one_number(self) -> DatasetSettings:
        if self.count is not None and self.stream is not None:
            raise ValueError("count draws from all rows and stream fetches the first ones; give one of them")
        return self


class ConversionSettings(DatasetSettings):
    """What `burnish data convert` takes as key=value."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of count and weight."""
    max_invalid_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the rows that may be left out since they cannot be used."""


def _is_source(value: object) -> str:
    return "a source" if isinstance(value, dict | DatasetSettings) else "a path"


def _is_list(value: object) -> str:
    return "a list" if isinstance(value, list | tuple) else _is_source(value)


_Path = Annotated[str, Tag("a path")]
_Source = Annotated[DatasetSettings, Tag("a source")]
_Entry = Annotated[_Path | _Source, Discriminator(_is_source)]
_List = Annotated[tuple[_Entry, ...], Field(strict=False, min_length=1), Tag("a list")]

# Told apart by how it is written, so that a mistake is explained for that way alone.
DataField = Annotated[_Path | _Source | _List, Discriminator(_is_list)]
"""A path, a source, or a list of both."""


def sources(
    data: str | DatasetSettings | Sequence[str | DatasetSettings],
    *,
    format: str | None = None,
    columns: Mapping[str, str] = NOTHING,
    documents: Literal["file", "paragraph", "line"] = "file",
    scores: tuple[str, ...] = (),
) -> tuple[DataSource, ...]:
    """The sources that a stage's data names; what a source leaves out is given."""
    entries = [data] if isinstance(data, str | DatasetSettings) else data
    written = [DatasetSettings(path=entry) if isinstance(entry, str) else entry for entry in entries]
    return tuple(
        DataSource(
            path=entry.path,
            name=entry.name,
            weight=entry.weight,
            count=entry.count,
            format=entry.format or format,
            columns=columns if entry.columns is None else entry.columns,
            split=entry.split,
            documents=entry.documents or documents,
            stream=entry.stream,
            scores=scores,
        )
        for entry in written
    )


def read_conversion(given: Mapping[str, object], overrides: Sequence[str]) -> ConversionSettings:
    """The settings of a conversion, from flags and ``key=value``."""
    data = dict(given)
    for key, value in parse_overrides(overrides).items():
        put(data, key, value)
    return parse(ConversionSettings, data, {}, RENAMED)
