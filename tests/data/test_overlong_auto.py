"""overlong=auto: up to 2 % of the rows are left out and listed; more stop the run with a table."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

import burnish.data.streaming
from burnish.data.dataset import DatasetSpec
from burnish.data.limits import prompt_table
from burnish.data.read import read_rows
from burnish.data.settings import Overlong
from burnish.data.streaming import StreamingDataset
from burnish.data.template import Template
from burnish.errors import DataError

Write = Callable[..., str]
PLAIN = Template("{% for m in messages %}{{ m.content }}|{% endfor %}")


def rows(long: int, count: int = 100) -> list[dict[str, str]]:
    return [{"question": "q", "answer": "x" * (300 if n < long else 3)} for n in range(count)]


def spec(
    path: str, tokenizer: PreTrainedTokenizerBase, max_length: int = 100, overlong: Overlong = "auto"
) -> DatasetSpec:
    return DatasetSpec.of(read_rows(path), tokenizer, PLAIN, max_length=max_length, overlong=overlong)


def test_two_of_a_hundred_are_left_out_and_listed(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(*rows(2))
    data = spec(path, byte_level).whole()
    assert len(data) == 98
    assert [row.where for row in data.left_out] == [f"{path} line 1", f"{path} line 2"]
    assert data.report.dropped[0].count == 2
    dropped = spec(path, byte_level, overlong="drop").whole()
    assert data.samples.fingerprint == dropped.samples.fingerprint
    assert data.lengths.tolist() == dropped.lengths.tolist()


def test_more_stop_with_a_table(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match=r"3 of 100 rows .* are longer than 100 tokens") as caught:
        spec(write(*rows(3)), byte_level).whole()
    table = caught.value.given.splitlines()[1:]
    assert table[0].split() == ["max_length", "longer", "cut", "keeps", "drop", "keeps", "computed"]
    assert [int(line.split()[1]) for line in table[1:]] == sorted(int(line.split()[1]) for line in table[1:])[::-1]
    assert table[1].split()[:2] == ["100", "3"]
    assert table[-1].split()[1:] == ["0", "100.0%", "100.0%", "100.0%"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(1, 120))
def test_the_rule_is_a_fraction_of_the_rows(
    byte_level: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory, long: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(f'{{"question": "q", "answer": "{row["answer"]}"}}\n' for row in rows(long, count)))
    made = spec(str(path), byte_level)
    if min(long, count) <= 0.02 * count:
        assert len(made.whole()) == count - min(long, count)
    else:
        with pytest.raises(DataError, match="overlong=auto leaves out"):
            made.whole()


def test_a_large_set_begins_at_once_if_no_row_can_be_long(
    write: Write, byte_level: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of the largest row decide: they are known without reading a row."""
    monkeypatch.setattr(burnish.data.streaming, "AT_ONCE", 10)
    path = write(*rows(0, 40))
    with StreamingDataset(spec(path, byte_level, max_length=5000)) as streamed:
        assert not streamed.preparation.may_leave_out
        assert len(streamed) == 40
    assert spec(path, byte_level, max_length=100).may_leave_out
    assert not spec(path, byte_level, max_length=100, overlong="error").may_leave_out


@settings(max_examples=40, deadline=None)
@given(st.integers(100, 400), st.sampled_from(["auto", "error"]))
def test_no_limit_above_the_positions_of_the_model_is_recommended(
    byte_level: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory, positions: int, overlong: Overlong
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(f'{{"question": "q", "answer": "{row["answer"]}"}}\n' for row in rows(10)))
    made = DatasetSpec.of(
        read_rows(str(path)), byte_level, PLAIN, max_length=100, overlong=overlong, max_positions=positions
    )
    with pytest.raises(DataError) as caught:
        made.whole()
    assert ("max_length" in caught.value.remedy) == (positions > 100)
    table = caught.value.given.splitlines()[2:]
    assert all(int(line.split()[0].replace(",", "")) <= positions for line in table)
    said = re.search(r"raise max_length to (\d+)", caught.value.remedy)
    assert said is None or int(said[1]) <= positions


@given(st.lists(st.integers(1, 500), min_size=1), st.integers(1, 100), st.integers(1, 300), st.integers(0, 300))
def test_the_table_of_prompts_ends_at_the_positions(sizes: list[int], room: int, limit: int, more: int) -> None:
    _, *lines = prompt_table(sizes, room, limit, limit + more)
    limits = [int(line.split()[0].replace(",", "")) for line in lines]
    assert limits == sorted(set(limits))
    assert limits[0] == limit
    assert limits[-1] == max(limit, min(max(sizes) + room, limit + more))
