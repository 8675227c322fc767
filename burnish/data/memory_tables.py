"""Tables in memory, stored as Parquet files: a `datasets.Dataset`, a data frame of pandas or polars, a table of Arrow.

Used by `memory`, which imports it only when such an object is given; `reading.tables` reads the files. A missing value
of pandas (None, NaN, NaT) is null, as in its own Parquet files; elsewhere NaN is a number, and stays one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from burnish.data.formats.fields import kind
from burnish.data.reading.content import new_file
from burnish.data.reading.tables import table_digest
from burnish.data.settings import ROWS_IN_MEMORY
from burnish.errors import DataError

_BATCH = 10_000
"""Rows of a `datasets.Dataset`, which may be larger than memory, that are converted at a time."""


def store_table(table: Any, library: str, folder: Path) -> Path:
    """The Parquet file of a table in this folder, named after its content; it is written if it is not there.

    Args:
        table: a table with rows in memory.
        library: name of its library: datasets, pandas, polars or pyarrow.
        folder: folder of the file; it need not exist.

    Raises:
        DataError: a column is no column of Arrow, or there are no rows.
        OSError: the file cannot be written.
    """
    if len(table) == 0:
        raise DataError(
            given=f"{ROWS_IN_MEMORY}: an empty {type(table).__name__}",
            rule="a data set has at least one row",
            remedy="give a table with rows",
        )
    digest = table_digest(_arrow(table, library), b"burnish rows in memory 1\n")
    file = folder / f"{digest}.parquet"
    if not file.is_file():
        parts = _arrow(table, library)
        first = next(parts)
        with new_file(file) as output, pq.ParquetWriter(output, first.schema) as writer:
            for part in chain([first], parts):
                writer.write_table(part)
    return file


def _arrow(table: Any, library: str) -> Iterator[pa.Table]:
    """Yields the table in parts, as tables of Arrow."""
    if library == "pyarrow":
        yield table
    elif library == "datasets":
        yield from table.with_format("arrow").iter(_BATCH)
    elif library == "polars":
        yield table.to_arrow()
    else:
        yield _of_pandas(table)


def _of_pandas(frame: Any) -> pa.Table:
    for name in frame.columns:
        if not isinstance(name, str):
            raise DataError(
                given=f"{ROWS_IN_MEMORY}: the column {name!r} of a DataFrame",
                rule="the name of a column is text",
                remedy="name the columns: frame.rename(columns=str), or frame.columns = [...]",
            )
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise _no_column(frame, error) from error


def _no_column(frame: Any, error: Exception) -> DataError:
    """Error for a frame that Arrow cannot convert, with the first row that has another type than the rows before."""
    for position, name in enumerate(frame.columns):
        values = frame.iloc[:, position].tolist()
        row = _first_misfit(values)
        if row < len(values):
            return DataError(
                given=f"row {row} of the {ROWS_IN_MEMORY} (counted from 0): {name} is "
                f"{kind(values[row])}, and does not fit its column",
                rule="a column of a table has values of one type that Arrow knows",
                remedy='convert the column, or give rows as a list: frame.to_dict("records")',
            )
    return DataError(
        given=f"{ROWS_IN_MEMORY}: a DataFrame that is no table of Arrow: {' '.join(str(error).split())[:300]}",
        rule="columns have different names, and values of one type each",
        remedy='rename or convert the columns, or give rows as a list: frame.to_dict("records")',
    )


def _first_misfit(values: list[Any]) -> int:
    """Index of the first value that does not fit those before it; the number of values: all fit."""
    return bisect_left(range(len(values)), True, key=lambda last: not _is_column(values[: last + 1]))


def _is_column(values: list[Any]) -> bool:
    """Whether Arrow has a type for these values."""
    try:
        pa.array(values, from_pandas=True)
    except (pa.ArrowException, ValueError, TypeError):
        return False
    return True
