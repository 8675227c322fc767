"""Settings of `data`: one path, or a list of datasets with weights, counts, formats and columns of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from burnish.config.settings import Settings, parse
from burnish.config.text import parse_overrides, put
from burnish.data.formats.prompt_template import checked_template
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


PromptTemplate = Annotated[str, AfterValidator(checked_template)]
"""Text with columns in braces."""


class DatasetSettings(Settings):
    """One dataset of a mixture; fields that are not set are those of the stage."""

    path: str
    """A file, a folder, a glob pattern or a dataset of the hub; #500 at its end draws 500 rows by the seed."""
    name: str | None = None
    """Name in reports; null: the path."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Number of times that each of its rows is seen in an epoch."""
    count: Annotated[int, Field(gt=0)] | None = None
    """Number of rows to draw by the seed; null: all rows."""
    format: FormatName | None = None
    """Format of its rows; null: the stage's."""
    columns: dict[str, str] | None = None
    """Names of columns, as field of the format: column of the data; null: the stage's."""
    prompt_template: PromptTemplate | None = None
    """Text of a prompt, with columns of the row in braces, such as "{text} It must pass: {test_list[0]}"; null: the
    stage's."""
    split: str | None = None
    """Split of a hub dataset or a folder; null: train, or the only one."""
    documents: Literal["file", "paragraph", "line"] | None = None
    """Unit of a text file that is one document; null: the stage's."""
    stream: Annotated[int, Field(gt=0)] | None = None
    """Number of first rows to fetch of a hub dataset; null: all rows."""

    @model_validator(mode="after")
    def _one_number(self) -> DatasetSettings:
        if self.count is not None and self.stream is not None:
            raise ValueError("count draws from all rows and stream fetches the first ones; give one of them")
        return self


class ConversionSettings(DatasetSettings):
    """Settings of `burnish data convert`, given as key=value."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the rows that count and weight draw."""
    max_invalid_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest share of rows that may be invalid and left out."""


def _is_source(value: object) -> str:
    return "a source" if isinstance(value, dict | DatasetSettings) else "a path"


def _is_list(value: object) -> str:
    return "a list" if isinstance(value, list | tuple) else _is_source(value)


_Path = Annotated[str, Tag("a path")]
_Source = Annotated[DatasetSettings, Tag("a source")]
_Entry = Annotated[_Path | _Source, Discriminator(_is_source)]
_List = Annotated[tuple[_Entry, ...], Field(strict=False, min_length=1), Tag("a list")]


def _no_rows(value: object) -> object:
    """Refuses rows in memory: the Python functions of the package store them first, see `burnish.data.memory`."""
    rows = isinstance(value, list | tuple) and any(isinstance(row, Mapping) and "path" not in row for row in value)
    if rows or not isinstance(value, str | int | float | Mapping | list | tuple | DatasetSettings | None):
        given = "rows in memory" if rows else f"an object of the class {type(value).__name__}"
        raise ValueError(
            f"data is a path, or a list of paths and {{path: …}}, and here it is {given}; rows in memory (a list of "
            "mappings, a datasets.Dataset, a DataFrame) are given to the functions of burnish, such as "
            "burnish.sft(data=rows), or written into a file, one JSON object a line"
        )
    return value


# The form of the value selects the alternative, so that a mistake is explained for that alternative alone.
DataField = Annotated[_Path | _Source | _List, Discriminator(_is_list), BeforeValidator(_no_rows)]
"""A path, a dataset with its settings, or a list of both."""


def sources(
    data: str | DatasetSettings | Sequence[str | DatasetSettings],
    *,
    format: str | None = None,
    columns: Mapping[str, str] = NOTHING,
    documents: Literal["file", "paragraph", "line"] = "file",
    prompt_template: str | None = None,
    scores: tuple[str, ...] = (),
) -> tuple[DataSource, ...]:
    """Data sources of a stage's `data`; the arguments are the defaults of fields that a source does not set."""
    entries = [data] if isinstance(data, str | DatasetSettings) else data
    datasets = [DatasetSettings(path=entry) if isinstance(entry, str) else entry for entry in entries]
    return tuple(
        DataSource(
            path=entry.path,
            name=entry.name,
            weight=entry.weight,
            count=entry.count,
            format=entry.format or format,
            columns=columns if entry.columns is None else entry.columns,
            prompt_template=entry.prompt_template or prompt_template,
            split=entry.split,
            documents=entry.documents or documents,
            stream=entry.stream,
            scores=scores,
        )
        for entry in datasets
    )


def read_conversion(given: Mapping[str, object], overrides: Sequence[str]) -> ConversionSettings:
    """Reads the settings of a conversion from flags and ``key=value``."""
    data = dict(given)
    for key, value in parse_overrides(overrides).items():
        put(data, key, value)
    return parse(ConversionSettings, data, {}, RENAMED)
