"""Round trips of every format through canonical rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.convert import canonical, write_canonical
from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize
from burnish.data.mixture import open_data
from burnish.data.records import (
    AnyExample,
    Completion,
    Conversation,
    Document,
    Labelled,
    Message,
    Ranked,
    Stepped,
    Task,
)
from burnish.data.settings import DataSource
from burnish.errors import DataError

U, A = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
B = {"role": "assistant", "content": "5"}
user, right, wrong = (
    Message("user", "2+2?"),
    Message("assistant", "4", trained=True),
    Message("assistant", "5", trained=True),
)
PARTS = [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]
THREE = Ranked("a", ("b", "c", "d"), (1, 2.5, 1))
CALL = [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
talk = Conversation((user, right))
pair = Ranked((user,), ((right,), (wrong,)), (1.0, 0.0))
text_pair = Ranked("2+2=", (" 4", " 5"), (1.0, 0.0))
HUMAN = "\n\nHuman: 2+2?\n\nAssistant:"

ROWS: list[tuple[str, dict[str, object], AnyExample]] = [
    ("chat", {"messages": [U, A]}, talk),
    ("chat", {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}, talk),
    ("chat", {"conversation": [{"role": "human", "content": "2+2?"}, {"role": "bot", "content": "4"}]}, talk),
    ("chat", {"messages": json.dumps([U, A]), "tools": ""}, talk),
    ("chat", {"messages": [U, A], "system": "s"}, Conversation((Message("system", "s"), user, right))),
    ("chat", {"messages": [U, A], "tools": json.dumps(TOOLS)}, Conversation((user, right), tuple(TOOLS))),
    (
        "chat",
        {"messages": [{"role": "user", "content": PARTS}, A]},
        talk,
    ),
    (
        "chat",
        {"messages": [U, {**A, "train": False}, U, {**A, "train": True}]},
        Conversation((user, Message("assistant", "4"), user, right)),
    ),
    (
        "chat",
        {
            "conversations": [
                {"from": "human", "value": "2+2?"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                {"from": "observation", "value": "4"},
                {"from": "gpt", "value": "4"},
            ]
        },
        Conversation(
            (user, Message("assistant", None, {"tool_calls": CALL}, trained=True), Message("tool", "4"), right)
        ),
    ),
    ("alpaca", {"instruction": "2+2?", "output": "4"}, talk),
    ("alpaca", {"instruction": "2+2?", "input": "", "output": "4", "history": None, "text": "all"}, talk),
    ("alpaca", {"instruction": "2+2?", "context": "", "response": "4", "category": "qa"}, talk),
    (
        "alpaca",
        {"instruction": "add", "input": "2+2", "output": "4", "history": [["hi", "ho"]], "system": "s"},
        Conversation(
            (
                Message("system", "s"),
                Message("user", "hi"),
                Message("assistant", "ho"),
                Message("user", "add\n\n2+2"),
                right,
            )
        ),
    ),
    ("prompt_completion", {"prompt": "2+2=", "completion": " 4"}, Completion("2+2=", " 4")),
    ("prompt_completion", {"prompt": "2+2=", "response": " 4"}, Completion("2+2=", " 4")),
    ("prompt_completion", {"inputs": "2+2=", "targets": " 4"}, Completion("2+2=", " 4")),
    ("prompt_completion", {"prompt": [U], "completion": [A]}, talk),
    ("question_answer", {"question": "2+2?", "answer": "4"}, talk),
    ("question_answer", {"query": "2+2?", "response": "4", "type": "x"}, talk),
    ("question_answer", {"problem": "2+2?", "solution": "4", "answer": "x", "level": 1}, talk),
    ("question_answer", {"text": "2+2?", "code": "4", "test_list": ["x"], "task_id": 1}, talk),
    (
        "question_answer",
        {"system_prompt": "s", "question": "2+2?", "response": "4"},
        Conversation((Message("system", "s"), user, right)),
    ),
    ("preference", {"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}, text_pair),
    ("preference", {"chosen": "2+2= 4", "rejected": "2+2= 5"}, text_pair),
    ("preference", {"question": "2+2?", "chosen": "4", "rejected": "5"}, pair),
    ("preference", {"prompt": [U], "chosen": [A], "rejected": [B]}, pair),
    ("preference", {"prompt": [U], "chosen": "4", "rejected": "5"}, pair),
    ("preference", {"chosen": [U, A], "rejected": [U, B]}, pair),
    ("preference", {"prompt": "2+2?", "chosen": [U, A], "rejected": [U, B], "score_chosen": 3.0}, pair),
    ("preference", {"prompt": "2+2?", "chosen": A, "rejected": B}, pair),
    ("preference", {"chosen": f"{HUMAN} 4", "rejected": f"{HUMAN} 5"}, pair),
    ("preference", {"prompt": HUMAN, "chosen": "4", "rejected": "5"}, pair),
    ("ranking", {"prompt": "2+2=", "responses": [" 4", " 5"], "scores": [1, 0]}, text_pair),
    (
        "ranking",
        {"problem": "2+2?", "completions": ["5", "4"], "ranks": [2, 1]},
        Ranked((user,), ((wrong,), (right,)), (-2, -1)),
    ),
    ("ranking", {"prompt": "a", "responses": ["b", "c", "d"], "scores": "[1, 2.5, 1]"}, THREE),
    ("labelled", {"prompt": "2+2=", "completion": " 5", "label": False}, Labelled("2+2=", " 5", label=False)),
    ("labelled", {"prompt": [U], "completion": [A], "label": True}, Labelled((user,), (right,), label=True)),
    ("labelled", {"question": "2+2?", "response": "4", "label": "True"}, Labelled((user,), (right,), label=True)),
    (
        "stepwise",
        {"prompt": "2+2=", "completions": ["2+2", "is 5"], "labels": [True, False]},
        Stepped("2+2=", ("2+2", "is 5"), (1.0, 0.0)),
    ),
    ("stepwise", {"question": "2+2?", "steps": '["4"]', "labels": [0.5]}, Stepped((user,), ("4",), (0.5,))),
    ("task", {"prompt": "2+2="}, Task("2+2=")),
    ("task", {"problem": "2+2?", "answer": "4", "level": 1}, Task((user,), "4", {"level": 1})),
    ("task", {"question": "2+2?", "ground_truth": "4"}, Task((user,), "4")),
    ("task", {"text": "2+2?", "test_list": ["assert"], "setup": ""}, Task((user,), ["assert"], {"setup": ""})),
    ("text", {"text": " a\n", "url": "u"}, Document(" a\n")),
]


def convert(row: dict[str, object], name: str | None = None) -> AnyExample:
    columns = tuple(name for name, value in row.items() if value is not None)
    return recognize(columns, name, stage=None).convert(row)


@pytest.mark.parametrize(("name", "row", "meaning"), ROWS)
def test_rows_convert_to_examples(name: str, row: dict[str, object], meaning: AnyExample) -> None:
    columns = tuple(name for name, value in row.items() if value is not None)
    assert recognize(columns, stage=None).name == name
    assert convert(row) == convert(row, name) == meaning


@pytest.mark.parametrize(("name", "row", "meaning"), ROWS)
def test_canonical_rows_convert_to_the_same_examples(name: str, row: dict[str, object], meaning: AnyExample) -> None:
    canonical_row = json.loads(json.dumps(canonical(meaning)))
    assert convert(canonical_row) == meaning


def test_every_format_has_a_row() -> None:
    assert {name for name, _, _ in ROWS} == {entry.name for entry in FORMATS.values() if not entry.named_only}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
extras = st.dictionaries(st.sampled_from(["name", "reasoning_content", "x"]), texts, max_size=2)
answers = st.builds(Message, st.just("assistant"), texts, extras, st.booleans())
others = st.builds(Message, st.sampled_from(["system", "developer", "user", "tool"]), texts, extras)
last = st.builds(Message, st.just("assistant"), texts, extras, st.just(True))
talks = st.builds(lambda first, rest, end: (first, *rest, end), others, st.lists(others | answers, max_size=4), last)
responses = st.tuples(st.builds(Message, st.just("assistant"), texts, extras, st.just(True)))
prompts = st.lists(others, min_size=1, max_size=3).map(tuple)
plain = texts.filter(lambda text: not text.startswith("\n\n"))
values = st.recursive(st.none() | st.booleans() | st.integers() | texts, st.lists, max_leaves=4)
examples: st.SearchStrategy[AnyExample] = st.one_of(
    st.builds(Conversation, talks, st.lists(st.just(TOOLS[0]), max_size=2).map(tuple)),
    st.builds(Completion, texts, texts),
    st.builds(Document, texts.filter(str.strip)),
    st.builds(Ranked, prompts, st.tuples(responses, responses), st.sampled_from([(1.0, 0.0), (0.5, 2.0)])),
    st.builds(Ranked, plain, st.tuples(texts, texts, texts), st.sampled_from([(1.0, 0.0, 0.0), (3.0, 2.0, 1.0)])),
    st.builds(Labelled, prompts, responses, st.booleans()),
    st.builds(Labelled, plain, texts, st.booleans()),
    st.builds(Task, prompts | plain, values, st.dictionaries(texts, values, max_size=2)),
)


@given(example=examples)
def test_anything_written_is_read_again(example: AnyExample) -> None:
    canonical_row = json.loads(json.dumps(canonical(example)))
    if isinstance(example, Ranked) and example.responses[0] == example.responses[1] and len(example.responses) == 2:
        return
    assert convert(canonical_row) == example


def test_a_file_converted_and_read_again(tmp_path: Path) -> None:
    row = {"chosen": f"{HUMAN} 4", "rejected": f"{HUMAN} 5"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (row, row)))
    canonical_row = write_canonical(
        open_data([DataSource(path=str(tmp_path / "a.jsonl"))], stage=None), tmp_path / "b.jsonl"
    )
    assert (canonical_row.num_rows, canonical_row.unusable) == (2, ())
    again = open_data([DataSource(path=str(tmp_path / "b.jsonl"))], stage=None)
    assert [again.format.convert(row) for row in again.rows] == [pair, pair]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_errors_of_conversions(write: Callable[..., str], tmp_path: Path) -> None:
    data = open_data([DataSource(path=write({"question": "a", "answer": "b"}, {"question": "a"}, {"question": "c"}))])
    with pytest.raises(DataError, match="2 of 3 rows cannot be used") as caught:
        write_canonical(data, tmp_path / "out.jsonl")
    assert "rows.jsonl line 2: answer is missing" in caught.value.given
    assert caught.value.remedy.endswith("max_invalid_fraction=0.667")
    assert not (tmp_path / "out.jsonl").exists()
    canonical_row = write_canonical(data, tmp_path / "new" / "out.jsonl", max_invalid_fraction=0.667)
    assert (canonical_row.num_rows, len(canonical_row.unusable)) == (1, 2)
    with pytest.raises(DataError, match=r"out\.jsonl exists"):
        write_canonical(data, tmp_path / "new" / "out.jsonl")
    with pytest.raises(DataError, match="cannot be written"):
        write_canonical(data, tmp_path / "rows.jsonl" / "out.jsonl")
