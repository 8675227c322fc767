"""What a set says of itself: empty answers, rows in common with held-out data, labels of one kind, prompts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.empty_answers import rows_with_empty_answers
from burnish.data.filter_rules import FilterRules
from burnish.data.filters import apply_filters
from burnish.data.in_common import prompts_in_common, rows_in_common
from burnish.data.mixture import open_data
from burnish.data.prompts import Prompts, prompts
from burnish.data.settings import DataSource, TrainOn
from burnish.data.template import choose_template
from burnish.errors import DataError

Write = Callable[..., str]
Row = dict[str, object]


def prepared(path: str, tokenizer: PreTrainedTokenizerBase, train_on: TrainOn = "assistant") -> TokenizedDataset:
    opened = open_data([DataSource(path=path)])
    template = choose_template(tokenizer, "chatml")
    spec = DatasetSpec.of(
        opened.rows,
        tokenizer,
        template,
        format=opened.format,
        max_length=512,
        train_on=train_on,
        max_invalid_fraction=1,
    )
    return spec.whole(workers=0)


def prompts_of(path: str, tokenizer: PreTrainedTokenizerBase) -> Prompts:
    opened = open_data([DataSource(path=path)], stage="rl")
    template = choose_template(tokenizer, "chatml")
    return prompts(DatasetSpec.of(opened.rows, tokenizer, template, format=opened.format, max_length=512), 8)


def talk(*answers: str) -> Row:
    turns = [(("user", f"Question {n}?"), ("assistant", answer)) for n, answer in enumerate(answers)]
    return {"messages": [{"role": role, "content": text} for turn in turns for role, text in turn]}


ANSWERS = st.lists(st.sampled_from(["", " ", "\n\n", "yes", " a ", "<|im_end|>", "a" * 40]), min_size=1, max_size=3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(rows=st.lists(ANSWERS, min_size=1, max_size=5))
def test_rows_with_an_empty_turn_are_found(
    write: Write, byte_level: PreTrainedTokenizerBase, rows: list[list[str]]
) -> None:
    dataset = prepared(write(*[talk(*answers) for answers in rows]), byte_level)
    expected = [row for row, answers in enumerate(rows) if not all(answer.strip() for answer in answers)]
    assert rows_with_empty_answers(dataset.samples, byte_level).tolist() == expected
    assert dataset.report.num_empty_answers == len(expected)
    said = [line for line in dataset.report.lines() if "empty answer" in line]
    assert len(said) == bool(expected)
    assert dataset.report.card()["notes"].count(said[0].strip() if said else "") == bool(expected)


def test_empty_completions_and_documents(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    dataset = prepared(write({"prompt": "a", "completion": ""}, {"prompt": "a", "completion": "b"}), byte_level)
    assert rows_with_empty_answers(dataset.samples, byte_level).tolist() == [0]
    documents = prepared(write({"text": "a"}, {"text": "a b c d e f g h i j"}), byte_level)
    assert documents.report.num_empty_answers == 0


def test_the_whole_text_is_no_empty_answer(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    dataset = prepared(write(talk("")), byte_level, "everything")
    assert dataset.report.num_empty_answers == 0


def test_rows_in_common(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    trained = prepared(write(talk("a"), talk("b", "c"), talk("d")), byte_level)
    held_out = prepared(write(talk("b", "c"), talk("e"), talk("b", "e"), talk("d")), byte_level)
    assert list(rows_in_common(trained, held_out)) == [
        f"  2 of 4 held-out rows are also trained ({held_out.origin.where(0)}, {held_out.origin.where(3)})",
        "  2 of 4 held-out rows have a prompt that is trained with another answer "
        f"({held_out.origin.where(1)}, {held_out.origin.where(2)})",
    ]
    assert list(rows_in_common(prepared(write({"question": "x", "answer": "y"}), byte_level), held_out)) == []


def test_documents_have_no_prompt_in_common(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    trained = prepared(write({"text": "a long text"}, {"text": "another"}), byte_level)
    held_out = prepared(write({"text": "a long one"}, {"text": "another"}), byte_level)
    (line,) = rows_in_common(trained, held_out)
    assert line.startswith("  1 of 2 held-out rows are also trained")


def test_prompts_in_common(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    rows = [{"question": f"{n}?", "answer": str(n)} for n in range(6)]
    trained, held_out = prompts_of(write(*rows), byte_level), prompts_of(write(*rows[:5]), byte_level)
    places = ", ".join(held_out.preparation.builder.rows.where(row) for row in range(3))
    assert list(prompts_in_common(trained, held_out)) == [f"  5 of 5 held-out rows are also trained ({places}, ...)"]
    assert list(prompts_in_common(prompts_of(write({"question": "other"}), byte_level), held_out)) == []


@pytest.mark.parametrize("labels", [[True, True], [False, False], [True, False]])
def test_labels_of_one_kind(write: Write, labels: list[bool]) -> None:
    path = write(*[{"prompt": f"{n}", "completion": "a", "label": label} for n, label in enumerate(labels)])
    said = list(apply_filters(open_data([DataSource(path=path)], stage="prefer"), FilterRules()).lines())
    alone = [line for line in said if f"all 2 rows have the label {str(labels[0]).lower()}" in line]
    assert len(alone) == (len(set(labels)) == 1)


@pytest.mark.parametrize(("text", "size"), [("h", 1), ("hello", 1), ("hello there", 2)])
def test_a_prompt_of_one_token_is_a_prompt(
    write: Write, byte_level: PreTrainedTokenizerBase, text: str, size: int
) -> None:
    (prompt,) = prompts_of(write({"prompt": text}), byte_level).tokenized
    assert len(prompt.tokens) >= size
    assert byte_level.decode(prompt.tokens) == text


def test_an_empty_prompt_is_called_empty(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match="line 1: the prompt is empty"):
        prompts_of(write({"prompt": ""}), byte_level)


def test_references_are_counted(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "c", "answer": " "}, {"question": "d"}]
    first, *notes = prompts_of(write(*rows), byte_level).lines()
    assert first.endswith("1 with a reference")
    assert notes == ["  1 rows have an empty reference"]
    _, *notes = prompts_of(write({"question": "a", "target": "b"}), byte_level).lines()
    assert notes == ["  no row has a reference; the column target looks like it: columns={reference: target}"]


def test_tools_of_a_prompt_reach_the_template(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """Built-in templates refuse tools; without reading them they would be lost."""
    row = {"prompt": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": {"name": "f"}}]}
    with pytest.raises(DataError, match="tools"):
        prompts_of(write(row), byte_level)
