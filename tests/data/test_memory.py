"""Rows in memory: stored once by their content, read as they were given, refused with their number and key."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.data.memory import stored, with_stored_rows
from burnish.data.mixture import open_data
from burnish.data.read import read_rows
from burnish.data.rows import Rows
from burnish.data.settings import DataSource, is_stored_rows, stored_rows_digest
from burnish.errors import DataError
from burnish.recipe.read import stage_recipe
from burnish.settings.data import sources

ROWS = [
    {"question": "2+2?", "answer": "4", "level": 1, "tags": ["sum", "short"]},
    {"question": "Größe? 🙂", "answer": "2024-01-01", "level": 2, "tags": []},
]
TABLES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "datasets.Dataset": datasets.Dataset.from_list,
    "pandas.DataFrame": pd.DataFrame,
    "pyarrow.Table": pa.Table.from_pylist,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def read(value: object) -> Rows:
    path = stored(value)
    assert isinstance(path, str)
    assert is_stored_rows(path)
    return read_rows(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), min_size=1, max_size=5))
def test_a_list_of_mappings_is_read_as_it_was_given(rows: list[dict[str, Any]]) -> None:
    if all("path" in row for row in rows):
        return
    assert list(read(rows)) == rows


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_as_it_was_given(name: str) -> None:
    found = read(TABLES[name](ROWS))
    assert list(found) == ROWS
    assert (found.source, found.where(1)) == ("rows in memory", "row 1 of the rows in memory (counted from 0)")


def test_types_and_missing_values() -> None:
    """In a list NaN and None stay; in tables a missing value has no key, as in Parquet files; Arrow has NaN."""
    assert read([{"a": None, "b": 1.5}])[0] == {"a": None, "b": 1.5}
    assert np.isnan(read([{"a": float("nan")}])[0]["a"])
    assert list(read(pd.DataFrame([{"a": "x", "b": 1.0}, {"a": None, "b": float("nan")}]))) == [
        {"a": "x", "b": 1.0},
        {},
    ]
    table = pa.table({"a": pa.array([float("nan"), None], from_pandas=False), "b": [date(2024, 1, 1)] * 2})
    first, second = read(table)
    assert np.isnan(first["a"])
    assert second == {"b": date(2024, 1, 1)}
    assert list(read(({"a": (1, 2)}, {"a": []}))) == [{"a": [1, 2]}, {"a": []}]


def test_a_selection_of_a_dataset_is_stored_alone() -> None:
    dataset = datasets.Dataset.from_list([{"n": n} for n in range(30)]).shuffle(seed=1).select(range(5))
    assert [row["n"] for row in read(dataset)] == list(dataset["n"])
    assert [row["n"] for row in read(dataset.with_format("torch"))] == list(dataset["n"])


@pytest.mark.parametrize("make", [list, *TABLES.values()])
def test_the_content_names_the_file(make: Callable[[Any], object], cache: Path) -> None:
    first, again, other = stored(make(ROWS)), stored(make([*ROWS])), stored(make(ROWS[:1]))
    assert first == again != other
    assert str(first).startswith(str(cache))
    assert len(list(cache.rglob("*.*"))) == 2, "each content is written once"


def test_paths_and_wrong_values_are_left_to_the_settings() -> None:
    for value in ("a.jsonl", None, 7, ["a.jsonl", {"path": "b.jsonl", "weight": 2}], {"weight": 2}, []):
        assert stored(value) == value


def test_mixtures_have_names() -> None:
    """Rows, tables and files; names of the user stay."""
    given = [ROWS, "a.jsonl", {"path": datasets.Dataset.from_list(ROWS), "weight": 2}, {"path": ROWS, "name": "sums"}]
    first, second, third, fourth = stored(given)
    assert second == "a.jsonl"
    assert (first["name"], third["name"], third["weight"], fourth["name"]) == (
        "rows in memory",
        "rows in memory 2",
        2,
        "sums",
    )
    data = open_data([DataSource(path=entry["path"], name=entry["name"]) for entry in (first, third, fourth)])
    assert data.rows.where(3) == "row 1 of the rows in memory 2 (counted from 0)"
    assert data.rows.where(5) == "row 1 of sums (counted from 0)"
    assert all("rows-in-memory" not in line for line in data.lines())


def test_rows_with_a_column_path_are_given_as_the_path_of_a_source() -> None:
    rows = [{"path": "a.png", "text": "A"}]
    assert stored(rows) == rows, "a list of mappings with a path is a mixture"
    assert list(read_rows(stored({"path": ROWS})["path"])) == ROWS


def test_a_part_of_the_rows_and_settings_of_their_source() -> None:
    [source] = sources(
        stage_recipe("sft", with_stored_rows({"model": "m", "data": {"path": ROWS, "count": 1}}))
        .recipe.stages[0]
        .settings.data
    )
    assert len(open_data([source]).rows) == 1


@pytest.mark.parametrize("key", ["data", "eval_data", "evaluation.prompts_data"])
def test_every_setting_of_data_takes_rows(key: str) -> None:
    assert is_stored_rows(with_stored_rows({key: ROWS, "model": "m"})[key])
    nested = with_stored_rows({"evaluation": {"prompts_data": ROWS, "generations": 2}})["evaluation"]
    assert is_stored_rows(nested["prompts_data"])
    assert nested["generations"] == 2


def test_a_recipe_counts_rows_by_their_content_wherever_they_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(**rows: object) -> dict[str, object]:
        return stage_recipe("sft", with_stored_rows({"model": "m", "eval_share": 0.1, **rows})).identity()

    prompts = {"evaluation": {"generations": 2, "prompts_data": ROWS}}
    here = identity(data=ROWS, **prompts)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "elsewhere"))
    assert identity(data=ROWS, **prompts) == here
    assert identity(data=ROWS[:1], **prompts) != here, "other rows are another run"
    prompts = {"evaluation": {"generations": 2, "prompts_data": ROWS[:1]}}
    assert identity(data=ROWS, **prompts) != here


CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.int64(3), ["row 1", "a is of the type numpy.int64", "value.item()"]),
        ({"b": [1, date(2024, 1, 1)]}, ["row 1", "a.b[1] is of the type datetime.date"]),
        (b"x", ["row 1", "a is of the type bytes"]),
        ({3: "x"}, ["row 1", "the key a.3 is of the type int"]),
        ("\ud83d", ["row 1", "a has \\ud83d", "half of a surrogate pair"]),
        (CYCLE, ["row 1", "holds itself"]),
    ],
)
def test_a_row_that_json_does_not_know(value: object, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        stored([{"a": 1}, {"a": value}])
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pd.DataFrame({"a": ["x", "y", {"b": 1}]}), ["row 2", "a is an object"]),
        (pd.DataFrame({0: ["x"]}), ["column 0", "text"]),
        (pd.DataFrame({"a": []}), ["empty DataFrame"]),
        (datasets.Dataset.from_list([]), ["empty Dataset"]),
        (datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}), ["DatasetDict", 'data["train"]']),
        (datasets.Dataset.from_list(ROWS).to_iterable_dataset(), ["IterableDataset", "take(1000)"]),
    ],
)
def test_a_table_that_cannot_be_stored(value: object, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        stored(value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_polars_frames_are_recognized_by_their_class() -> None:
    """polars is no requirement; what is used of it is `to_arrow`."""
    frame = type("DataFrame", (), {"__module__": "polars.dataframe.frame", "__len__": lambda self: len(ROWS)})
    frame.to_arrow = lambda self: pa.Table.from_pylist(ROWS)
    assert list(read(frame())) == ROWS
    lazy = type("LazyFrame", (), {"__module__": "polars.lazyframe.frame"})
    with pytest.raises(DataError, match=r"data\.collect\(\)"):
        stored(lazy())


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "file"))
    for rows in (ROWS, pd.DataFrame(ROWS)):
        with pytest.raises(DataError, match="BURNISH_CACHE"):
            stored(rows)


def test_stored_rows_that_are_gone_are_explained(cache: Path) -> None:
    path = stored(ROWS)
    Path(path).unlink()
    with pytest.raises(DataError, match="give the same rows again from Python"):
        read_rows(path)
    assert stored_rows_digest(path) == Path(path).stem


def test_nothing_is_imported_for_paths() -> None:
    code = (
        "import sys; from burnish.data.memory import with_stored_rows; with_stored_rows({'data': 'a.jsonl'}); "
        "assert not {'torch', 'datasets', 'pandas', 'pyarrow', 'polars', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
