"""Samples, weights, mixtures, mappings and user functions: exact counts, the same for the same seed."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data.dataset import DatasetSpec
from burnish.data.formats.recognize import READY
from burnish.data.mixture import open_data, repeated
from burnish.data.read import read_rows
from burnish.data.records import Completion, Conversation, Document, Message
from burnish.data.rows import Rows
from burnish.data.sample import drawn
from burnish.data.settings import DataSource
from burnish.data.template import choose_template
from burnish.errors import DataError

Write = Callable[..., str]


def talk(question: str, answer: str) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer, trained=True)))


@pytest.fixture
def numbered(write: Write) -> Callable[..., str]:
    """Writes a file with a number of questions."""

    def make(count: int, name: str = "rows.jsonl") -> str:
        return write(*({"question": str(i), "answer": f"{name} {i}"} for i in range(count)), name=name)

    return make


def questions(rows: Rows) -> list[int]:
    return [int(str(row["question"])) for row in rows]


def test_a_sample_by_the_path(numbered: Callable[..., str]) -> None:
    path = numbered(50)
    some = read_rows(f"{path}#20")
    assert questions(some) == sorted(set(questions(some)))
    assert len(some) == 20
    assert questions(some) == questions(read_rows(f"{path}#20", seed=0)) != questions(read_rows(f"{path}#20", seed=1))
    assert set(questions(read_rows(f"{path}#10"))) < set(questions(some))
    assert questions(read_rows(f"{path}#50")) == list(range(50))
    assert some.where(0) == f"{path} line {questions(some)[0] + 1}"


def test_a_file_with_such_a_name_is_that_file(numbered: Callable[..., str]) -> None:
    path = numbered(5, "rows.jsonl#2")
    assert not Path(path.removesuffix("#2")).exists()
    assert open_data([DataSource(path=numbered(9))]).rows.source.endswith("rows.jsonl")


@given(size=st.integers(1, 60), count=st.integers(1, 60), seed=st.integers(0, 5))
def test_samples_are_exact(size: int, count: int, seed: int) -> None:
    if count <= size:
        indices = drawn("x", size, count, seed)
        assert sorted(set(indices.tolist())) == indices.tolist()
        assert len(indices) == count


@given(size=st.integers(1, 40), weight=st.floats(0.01, 5), seed=st.integers(0, 3))
def test_weights_are_exact(size: int, weight: float, seed: int) -> None:
    """Every row occurs floor(weight) times, and a share of them once more."""
    indices = repeated(size, weight, seed)
    times = Counter(indices.tolist())
    assert sorted(indices.tolist()) == indices.tolist()
    assert set(times.values()) <= {int(weight), int(weight) + 1}
    assert len(indices) == max(1, int(weight) * size + round((weight - int(weight)) * size))
    assert indices.tolist() == repeated(size, weight, seed).tolist()


def test_counts_and_weights_of_a_source(numbered: Callable[..., str]) -> None:
    path = numbered(40)
    data = open_data([DataSource(path=path, count=10, weight=2.5)], seed=3)
    times = Counter(questions(data.rows))
    assert (len(times), len(data.rows), sorted(times.values())) == (10, 25, [2] * 5 + [3] * 5)
    assert list(data.lines()) == [f"{path}: 10 rows of the format question_answer, weight 2.5: 25 in an epoch"]


@pytest.fixture
def three(write: Write, numbered: Callable[..., str], tmp_path: Path) -> list[DataSource]:
    (tmp_path / "book.txt").write_text("Once.\n\nTwice.")
    return [
        DataSource(path=numbered(30, "math.jsonl"), name="math", weight=2),
        DataSource(path=write({"prompt": "a", "completion": "b", "id": 1}, name="plain.jsonl")),
        DataSource(path=str(tmp_path / "book.txt"), documents="paragraph"),
    ]


def test_a_mixture(three: list[DataSource]) -> None:
    data = open_data(three, seed=1)
    rows = data.rows
    assert (len(rows), rows.columns, data.format.name) == (63, (READY,), "question_answer, prompt_completion, text")
    assert [rows.source_of(i) for i in (0, 59, 60, 61)] == ["math", "math", three[1].path, three[2].path]
    examples = [data.format.convert(row) for row in rows]
    assert examples[:3] == [talk("0", "math.jsonl 0"), talk("0", "math.jsonl 0"), talk("1", "math.jsonl 1")]
    assert examples[60:] == [Completion("a", "b"), Document("Once."), Document("Twice.")]
    assert [rows.where(i).rpartition("/")[2] for i in (0, 2, 60, 62)] == [
        "math.jsonl line 1", "math.jsonl line 2", "plain.jsonl line 1", "book.txt line 3",
    ]  # fmt: skip
    again = pickle.loads(pickle.dumps(data))
    assert [again.format.convert(row) for row in again.rows] == examples
    assert again.rows.fingerprint == open_data(three, seed=1).rows.fingerprint
    assert rows.fingerprint != open_data(three[1:], seed=1).rows.fingerprint
    assert [line.partition(": ")[2] for line in data.lines()] == [
        "30 rows of the format question_answer, weight 2: 60 in an epoch",
        "1 rows of the format prompt_completion; columns without use: id",
        "2 rows of the format text",
    ]


def test_the_seed_decides_what_is_drawn(numbered: Callable[..., str]) -> None:
    sources = [DataSource(path=numbered(30, "a.jsonl"), weight=0.5), DataSource(path=numbered(30, "b.jsonl"), count=7)]
    one, same, other = (open_data(sources, seed=seed).rows for seed in (1, 1, 2))
    assert [len(rows) for rows in (one, same, other)] == [22, 22, 22]
    assert list(one) == list(same) != list(other)
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_groups_know_their_source(three: list[DataSource], byte_level: PreTrainedTokenizerBase) -> None:
    data = open_data(three)
    prepared = DatasetSpec.of(
        data.rows, byte_level, choose_template(byte_level), format=data.format, max_length=99
    ).whole()
    assert Counter(str(group.metadata["source"]) for group in prepared) == {
        "math": 60, three[1].path: 1, three[2].path: 2,
    }  # fmt: skip


def test_a_row_of_a_mixture_that_is_wrong(write: Write, numbered: Callable[..., str]) -> None:
    wrong = write({"question": "a", "answer": "b"}, {"question": "c", "answer": 3}, name="b.jsonl")
    rows = open_data([DataSource(path=numbered(2, "a.jsonl")), DataSource(path=wrong)]).rows
    with pytest.raises(DataError, match="answer is a number"):
        rows[3]
    assert rows.where(3) == f"{wrong} line 2"


@pytest.mark.parametrize(
    ("columns", "row", "meaning"),
    [
        ({"question": "problem", "answer": "final"}, {"problem": "a", "final": "b", "x": "c"}, talk("a", "b")),
        ({"answer": "final"}, {"question": "a", "answer": "no", "final": "b"}, talk("a", "b")),
        ({"question": "answer", "answer": "question"}, {"question": "b", "answer": "a"}, talk("a", "b")),
        ({"answer": "answer"}, {"question": "a", "answer": "b", "response": "no"}, talk("a", "b")),
        ({"answer": "response"}, {"question": "a", "answer": "no", "response": "b"}, talk("a", "b")),
        ({"input": "context"}, {"instruction": "a", "output": "b", "context": "c"}, talk("a\n\nc", "b")),
        ({"question": "prompt", "answer": "completion"}, {"prompt": "a", "completion": "b"}, talk("a", "b")),
        ({"text": "body"}, {"body": "a", "text": "no"}, Document("a")),
    ],
)
def test_columns_of_other_names(write: Write, columns: dict[str, str], row: dict[str, str], meaning: object) -> None:
    data = open_data([DataSource(path=write(row), columns=columns)])
    assert [data.format.convert(row) for row in data.rows] == [meaning]
    assert set(data.format.unused(data.rows.columns)).isdisjoint(columns.values())
    assert data.format.identity
    assert pickle.loads(pickle.dumps(data.format)).convert(row) == meaning


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({"columns": {"qestion": "a"}}, "columns: {qestion: a}", "did you mean question?"),
        ({"columns": {"question": "questio"}}, "but the columns are question, answer", "did you mean question?"),
        ({"columns": {"question": "answer", "answer": "answer"}}, "columns names answer twice", "a column of its own"),
        ({"count": 3}, "3 rows of", "ask for at most 2"),
        ({"format": "chat"}, "format chat was named", "columns: {...}"),
        ({"format": "my.py:convert", "columns": {"question": "answer"}}, "with columns", "remove columns"),
        ({"format": "nowhere.py:convert"}, "nowhere.py does not exist", ""),
    ],
)
def test_sources_that_are_wrong(numbered: Callable[..., str], options: dict, message: str, remedy: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_data([DataSource(path=numbered(2), **options)])
    assert remedy in caught.value.remedy


def test_numbers_and_names_are_given_once(numbered: Callable[..., str]) -> None:
    path = numbered(9)
    with pytest.raises(DataError, match="with count 3"):
        open_data([DataSource(path=f"{path}#5", count=3)])
    with pytest.raises(DataError, match="two sources are called"):
        open_data([DataSource(path=path), DataSource(path=path)])
    assert len(open_data([DataSource(path=path), DataSource(path=path, name="again")]).rows) == 18


OWN = """
import json
from dataclasses import dataclass

from neighbour import SUFFIX


@dataclass
class Pair:
    ask: str


def convert(row):
    if row["n"] == 2:
        raise KeyError("no two")
    return {"question": Pair(row["a"]).ask, "answer": str(row["n"]) + SUFFIX} if row["n"] else "nothing"


def unknown(row):
    return {"x": 1}
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "neighbour.py").write_text("SUFFIX = '!'")
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def test_a_user_function(write: Write, own: str) -> None:
    data = open_data([DataSource(path=write({"a": "x", "n": 1}, {"a": "y", "n": 3}), format=f"{own}:convert")])
    assert [data.format.convert(row) for row in data.rows] == [talk("x", "1!"), talk("y", "3!")]
    again = pickle.loads(pickle.dumps(data.format))
    assert again.convert(data.rows[0]) == talk("x", "1!")
    Path(own).write_text(OWN.replace("'!'", "'?'") + "\n# changed")
    assert open_data([DataSource(path=data.rows.source, format=f"{own}:convert")]).format.identity != again.identity


def test_faults_of_a_function_name_the_row(write: Write, own: str, byte_level: PreTrainedTokenizerBase) -> None:
    path = write({"a": "x", "n": 1}, {"a": "y", "n": 2}, {"a": "z", "n": 0})
    data = open_data([DataSource(path=path, format=f"{own}:convert")])
    with pytest.raises(DataError) as caught:
        DatasetSpec.of(data.rows, byte_level, choose_template(byte_level), format=data.format, max_length=99).whole()
    line = OWN[: OWN.index("raise KeyError")].count("\n") + 1
    assert (
        f"{path} line 2: {own}:convert raised KeyError: 'no two' ({own} line {line}: raise KeyError(\"no two\"))"
        in caught.value.given
    )
    assert f"{path} line 3: {own}:convert returned str" in caught.value.given


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("def f(row): return row", "g", r"has no function 'g'"),
        ("def f(row)", "f", "cannot be run: SyntaxError"),
        ("import nothing_of_this_name", "f", "cannot be run: ModuleNotFoundError"),
        ("1 / 0", "f", "cannot be run: ZeroDivisionError"),
        ("f = 3", "f", r"has no function 'f'"),
    ],
)
def test_files_of_functions_that_are_wrong(write: Write, tmp_path: Path, source: str, name: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(DataError, match=message):
        open_data([DataSource(path=write({"a": 1}), format=f"{tmp_path / 'bad.py'}:{name}")])


def test_a_function_that_gives_unknown_columns(write: Write, own: str) -> None:
    data = open_data([DataSource(path=write({"a": 1}), format=f"{own}:unknown")])
    with pytest.raises(DataError, match="the columns x fit no known format"):
        data.format.convert(data.rows[0])
