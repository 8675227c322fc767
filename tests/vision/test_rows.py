"""Rows with images as other tools write them, and rows whose marks and images do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.data.formats.format import Stage
from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize
from burnish.data.records import AnyExample, Conversation, Message, Ranked, Task
from burnish.errors import DataError
from tests.vision.small import picture


def converted(row: dict[str, Any], stage: Stage = "sft") -> AnyExample:
    return recognize(tuple(row), None, stage=stage).for_stage(stage).convert(row)


def shown(messages: tuple[Message, ...]) -> list[tuple[str, list[str]]]:
    """Role, and the texts and images in their order."""
    return [
        (message.role, [getattr(part, "text", None) or f"[{part.source}]" for part in message.parts])  # type: ignore[union-attr]
        for message in messages
    ]


ASKED = [("user", ["[a.png]", "\nWhat is it?"]), ("assistant", ["A cat."])]
LAYOUTS: dict[str, dict[str, Any]] = {
    "LLaVA": {
        "id": "1",
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}],
    },
    "ShareGPT with a list": {
        "images": ["a.png"],
        "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}],
    },
    "LLaMA-Factory's messages": {
        "messages": [
            {"role": "user", "content": "<image>\nWhat is it?"},
            {"role": "assistant", "content": "A cat."},
        ],
        "images": ["a.png"],
    },
    "LLaMA-Factory's instruction": {
        "instruction": "<image>\nWhat is it?",
        "input": "",
        "output": "A cat.",
        "images": ["a.png"],
    },
    "question and answer": {"question": "<image>\nWhat is it?", "answer": "A cat.", "images": ["a.png"]},
    "OpenAI's parts": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "a.png"}},
                    {"type": "text", "text": "\nWhat is it?"},
                ],
            },
            {"role": "assistant", "content": "A cat."},
        ]
    },
    "transformers' parts": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "\nWhat is it?"}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        ]
    },
    "TRL's parts with a column": {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat is it?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
        ],
        "images": [{"path": "a.png", "bytes": None}],
    },
    "no marks": {
        "messages": [{"role": "user", "content": "\nWhat is it?"}, {"role": "assistant", "content": "A cat."}],
        "images": ["a.png"],
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_other_tools_say_the_same(name: str) -> None:
    example = converted(LAYOUTS[name])
    assert isinstance(example, Conversation)
    assert shown(example.messages) == ASKED
    assert example.images == ("a.png",)


def test_several_images_in_several_turns_keep_their_order() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "<image> and <image>: which?"},
            {"role": "assistant", "content": "The <image> first."},
            {"role": "user", "content": "and <image>"},
            {"role": "assistant", "content": "No."},
        ],
        "images": ["a.png", "b.png", "c.png"],
    }
    example = converted(row)
    assert isinstance(example, Conversation)
    assert shown(example.messages) == [
        ("user", ["[a.png]", " and ", "[b.png]", ": which?"]),
        ("assistant", ["The <image> first."]),
        ("user", ["and ", "[c.png]"]),
        ("assistant", ["No."]),
    ]


def test_comparisons_and_tasks_have_images_in_their_prompts() -> None:
    asked = [{"role": "user", "content": "<image>?"}]
    compared = converted(
        {
            "prompt": asked,
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": [{"role": "assistant", "content": "b"}],
            "images": ["a.png"],
        },
        "prefer",
    )
    assert isinstance(compared, Ranked)
    assert isinstance(compared.prompt, tuple)
    assert shown(compared.prompt) == [("user", ["[a.png]", "?"])]
    task = converted({"prompt": asked, "answer": "3", "images": ["a.png"]}, "rl")
    assert isinstance(task, Task)
    assert isinstance(task.prompt, tuple)
    assert shown(task.prompt) == [("user", ["[a.png]", "?"])]
    assert task.reference == "3"
    assert "images" not in task.extra


def test_bytes_and_pictures_become_data_urls() -> None:
    for image in (b"abc", {"bytes": b"abc", "path": "x.png"}, picture(1)):
        example = converted({"question": "<image>?", "answer": "a", "image": image})
        assert isinstance(example, Conversation)
        assert example.images[0].startswith("data:")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": ["a.png", "b.png"]}, "1 places for images .* and 2 images"),
        ({"question": "<image><image>?"}, "2 places for images .* and 1 images"),
        ({"images": [7]}, r"images\[0\] is"),
        ({"images": [None]}, r"images\[0\] is"),
        ({"images": [{"size": 3}]}, r"images\[0\] is"),
        ({"images": [""]}, r"images\[0\] is"),
        ({"image": "a.png"}, "columns image and images"),
        ({"videos": ["a.mp4"]}, "a column videos"),
        ({"audios": ["a.wav"]}, "a column audios"),
    ],
)
def test_rows_whose_images_do_not_fit_are_refused(change: dict[str, Any], reason: str) -> None:
    row = {"question": "<image>?", "answer": "a", "images": ["a.png"], **change}
    with pytest.raises(DataError, match=reason):
        FORMATS["question_answer"].convert(row)


def test_parts_without_an_image_are_refused() -> None:
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]},
            {"role": "assistant", "content": "a"},
        ]
    }
    with pytest.raises(DataError, match=r"1 places for images .* and 0 images"):
        converted(row)


def test_plain_text_takes_no_images() -> None:
    with pytest.raises(DataError, match="plain text"):
        converted({"prompt": "<image> is", "completion": " a cat", "images": ["a.png"]})


def test_a_column_that_says_where_a_row_comes_from_is_no_image() -> None:
    for image in ("registry/worker:3", 391895, 0.5):
        example = converted({"question": "How?", "answer": "So.", "image": image})
        assert isinstance(example, Conversation)
        assert example.images == ()


def test_empty_columns_and_marks_alone_are_text() -> None:
    for row in ({"images": []}, {"images": None}, {}):
        example = converted({"question": "What does <image> mean?", "answer": "A tag.", **row})
        assert isinstance(example, Conversation)
        assert example.messages[0].content == "What does <image> mean?"
