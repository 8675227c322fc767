"""Prompts from several columns: what is filled in, what stays, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.formats.prompt_template import checked_template, filled
from burnish.data.mixture import open_data
from burnish.data.records import ImagePart, Message, Task
from burnish.data.settings import DataSource
from burnish.errors import DataError, RecipeError
from burnish.settings.data import DatasetSettings, sources

MBPP = {"text": "Add two numbers.", "code": "x", "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]}
TEMPLATE = "{text}\n\nIt must pass:\n{test_list[0]}"
TEXT = "Add two numbers.\n\nIt must pass:\nassert add(1, 2) == 3"


@pytest.mark.parametrize(
    ("template", "row", "text"),
    [
        (TEMPLATE, MBPP, TEXT),
        ("{test_list}", MBPP, "assert add(1, 2) == 3\nassert add(0, 0) == 0"),
        ("{{{a}}}", {"a": "x"}, "{x}"),
        ("{a[b][1]}", {"a": {"b": [1, 2]}}, "2"),
        ("{a}", {"a": {"b": 1}}, '{"b": 1}'),
        ("{a[0]}", {"a": '["x"]'}, "x"),
        ("{a}", {"a": "{b}", "b": 1}, "{b}"),
        ("{n}", {"n": 1.5}, "1.5"),
    ],
)
def test_columns_are_filled_in(template: str, row: dict[str, object], text: str) -> None:
    assert filled(checked_template(template), row) == text


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_text_around_columns_and_in_them_stays(before: str, value: str, after: str) -> None:
    escaped = [part.replace("{", "{{").replace("}", "}}") for part in (before, after)]
    assert filled(f"{escaped[0]}{{a}}{escaped[1]}", {"a": value}) == before + value + after


@pytest.mark.parametrize(
    "template", ["no column", "{}", "{a.b}", "{a!r}", "{a:>3}", "{a", "a}", "{a[0}", "{0}", "{a[0]b}"]
)
def test_other_templates_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"column|brace|'}'|'\{'|expected"):
        checked_template(template)


@pytest.mark.parametrize("row", [{}, {"a": None}, {"a": []}, {"a": "x"}, {"a": 3}])
def test_a_row_without_the_entry_is_an_error(row: dict[str, object]) -> None:
    with pytest.raises(DataError):
        filled("{a[0]}", row)


def converted(folder: Path, row: object, **source: object) -> object:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    data = open_data([DataSource(path=str(path), **source)], stage="rl")  # type: ignore[arg-type]
    return data.format.convert(data.rows[0])


def test_the_last_user_message_is_written(tmp_path: Path) -> None:
    task = converted(tmp_path, MBPP, prompt_template=TEMPLATE)
    assert task == Task((Message("user", TEXT),), MBPP["test_list"], {"code": "x"})
    system = {"role": "system", "content": "Be brief."}
    task = converted(tmp_path, {"messages": [system, {"role": "user", "content": "?"}], "n": 3}, prompt_template="{n}!")
    assert isinstance(task, Task)
    assert [message.text for message in task.prompt if isinstance(message, Message)] == ["Be brief.", "3!"]


def test_a_plain_prompt_stays_plain(tmp_path: Path) -> None:
    task = converted(
        tmp_path, {"prompt": "def f():", "tests": ["assert f()"]}, prompt_template="# {tests[0]}\n{prompt}"
    )
    assert task == Task("# assert f()\ndef f():", None, {"tests": ["assert f()"]})


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("{problem}\nThink.", ["[a.png]", "Find x in ", "[b.png]", ".\nThink."]),
        ("Look: <image>, <image>. {hint}", ["Look: ", "[a.png]", ", ", "[b.png]", ". Angles."]),
        ("{hint}", ["[a.png]", "[b.png]", "Angles."]),
    ],
)
def test_images_go_to_the_marks_of_the_text(tmp_path: Path, template: str, parts: list[str]) -> None:
    row = {"problem": "<image>Find x in <image>.", "answer": "3", "images": ["a.png", "b.png"], "hint": "Angles."}
    task = converted(tmp_path, row, prompt_template=template)
    assert isinstance(task, Task)
    [message] = task.prompt
    assert isinstance(message, Message)
    assert [f"[{part.source}]" if isinstance(part, ImagePart) else part.text for part in message.parts] == parts


def test_another_number_of_marks_than_images_is_refused(tmp_path: Path) -> None:
    row = {"problem": "<image>Find x.", "answer": "3", "images": ["a.png"]}
    for template in ("{problem} <image>", "<image><image>"):
        with pytest.raises(DataError, match="2 places for images"):
            converted(tmp_path, row, prompt_template=f"{template}{{answer}}")


def test_the_columns_of_the_file_are_named(tmp_path: Path) -> None:
    row = {"task": "Add.", "tests": ["assert f()"]}
    task = converted(tmp_path, row, columns={"question": "task"}, prompt_template="{task} {tests[0]}")
    assert task == Task((Message("user", "Add. assert f()"),), None, {"tests": ["assert f()"]})


def test_a_change_of_the_template_is_another_format(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(MBPP) + "\n", encoding="utf-8")
    formats = [
        open_data([DataSource(path=str(path), prompt_template=template)], stage="rl").format
        for template in (None, "{text}", TEMPLATE)
    ]
    assert len({form.identity for form in formats}) == 3


def test_a_prompt_with_its_answer_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prompt_template"):
        converted(tmp_path, {"prompt": "2+2=", "completion": "4"}, prompt_template="{prompt}")


def test_rows_of_other_stages_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "2+2?", "answer": "4"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="prompt_template, and rows for sft"):
        open_data([DataSource(path=str(path), prompt_template="{question}")], stage="sft")


def test_a_source_has_its_own_or_that_of_the_stage() -> None:
    own, stage = sources(
        [DatasetSettings(path="a", prompt_template="{a}"), DatasetSettings(path="b")], prompt_template="{b}"
    )
    assert (own.prompt_template, stage.prompt_template) == ("{a}", "{b}")
    with pytest.raises((RecipeError, ValueError), match="column"):
        DatasetSettings(path="a", prompt_template="no column")
