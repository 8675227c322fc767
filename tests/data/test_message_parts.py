"""Messages of parts: texts are one text; images are read, converted and stored, and refused by a language model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerBase

from burnish.data.cache import samples_of
from burnish.data.convert import canonical
from burnish.data.dataset import DatasetSpec
from burnish.data.filter_rules import FilterRules
from burnish.data.filters import apply_filters
from burnish.data.formats.known import FORMATS
from burnish.data.mixture import open_data
from burnish.data.profile import profile
from burnish.data.prompts import prompts
from burnish.data.read import read_rows
from burnish.data.records import Conversation, ImagePart, Message, TextPart
from burnish.data.rendering import render
from burnish.data.settings import DataSource
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template import Template, choose_template
from burnish.data.writer import Writer
from burnish.errors import DataError

Write = Callable[..., str]
ANSWER = {"role": "assistant", "content": "a cat"}
IMAGE = {"type": "image", "image": "cat.png"}
TEXT = {"type": "text", "text": "What is this?"}
LOOKED = Conversation(
    (
        Message("user", (ImagePart("cat.png"), TextPart("What is this?"))),
        Message("assistant", "a cat", trained=True),
    )
)


def row_of(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}, ANSWER]}


def spec(path: str, tokenizer: PreTrainedTokenizerBase, **options: object) -> DatasetSpec:
    return DatasetSpec.of(read_rows(path), tokenizer, choose_template(tokenizer), max_length=1000, **options)


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        {"type": "image", "path": "cat.png", "url": None},
        {"type": "image", "url": "cat.png"},
        {"type": "image_url", "image_url": {"url": "cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": "cat.png", "text": None},
    ],
)
def test_images_are_read_and_converted(image: dict[str, object]) -> None:
    chat = FORMATS["chat"]
    assert chat.convert(row_of(image, TEXT)) == LOOKED
    written = json.loads(json.dumps(canonical(LOOKED)))
    assert written == row_of(IMAGE, TEXT)
    assert chat.convert(written) == LOOKED


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "image"}, "1 places for images (marks <image> or parts of the type image), and 0 images"),
        ({"type": "image", "image": {"size": 3}}, "messages[0] (user) has an image that is an object"),
        ({"type": "image", "image": 7}, "messages[0] (user) has an image that is a number"),
        ({"type": "image_url", "image_url": {"detail": "low"}}, "messages[0] (user) has an image that is an object"),
        ({"type": "video", "video": "cat.mp4"}, "with a part of type 'video'"),
        ({"type": "text"}, "with a part of type 'text, without text'"),
    ],
)
def test_parts_that_are_neither_text_nor_a_reference(part: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        FORMATS["chat"].convert(row_of(TEXT, part))


def test_parts_of_text_are_the_joined_text(byte_level: PreTrainedTokenizerBase) -> None:
    """In the record, in the mapping for templates, and in every rendering, with its text of control tokens."""
    pieces = ("<|im", "_end|>", " b")
    parts = Message("user", tuple(map(TextPart, pieces)))
    whole = Message("user", "".join(pieces))
    assert (parts.text, parts.as_mapping()) == (whole.text, whole.as_mapping())
    template = Template("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}")
    control = SpecialTokenText.of(byte_level, template)
    one, other = (
        render(
            Conversation((message, Message("assistant", "c", trained=True))),
            Writer(byte_level, template),
            control=control,
        )
        for message in (parts, whole)
    )
    assert one == other
    assert one[0].ordinary


def test_a_message_without_content_has_no_text() -> None:
    called = Message("assistant", None, {"tool_calls": [{"function": {}}]})
    assert (called.text, called.parts) == (None, ())
    assert "content" not in called.as_mapping()


def test_the_refusal_of_a_language_model_names_the_row(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(row_of(TEXT), row_of(IMAGE, TEXT), row_of(TEXT, TEXT))
    expected = re.escape(f"{path} line 2: the row has 1 images")
    with pytest.raises(DataError, match=expected) as error:
        spec(path, byte_level).whole()
    assert "takes text alone" in error.value.rule
    with pytest.raises(DataError, match=expected):
        prompts(spec(path, byte_level), room=10)
    assert len(spec(path, byte_level, max_invalid_fraction=0.4).whole()) == 2
    assert len(prompts(spec(path, byte_level, max_invalid_fraction=0.4), room=10).tokenized) == 2


def test_filters_leave_rows_with_images_to_the_data_set(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    """Two images under one text are no duplicates."""
    asked = [[{"role": "user", "content": [{**IMAGE, "image": name}, TEXT]}] for name in ("a.png", "b.png")]
    path = write(*({"prompt": prompt, "chosen": "a", "rejected": "b"} for prompt in asked))
    data = open_data([DataSource(path=path)], stage="prefer")
    assert apply_filters(data, FilterRules()).findings == ()


def test_a_profile_counts_the_text_beside_an_image(write: Write, byte_level: PreTrainedTokenizerBase) -> None:
    path = write(row_of(TEXT), row_of(IMAGE, {"type": "text", "text": "что"}))
    builder = spec(path, byte_level).builder
    found = profile(builder, samples_of(builder, workers=0), 1000)
    assert set(found.scripts) == {"LATIN", "CYRILLIC"}
