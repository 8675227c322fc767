"""Columns of images, and the marks in texts that say where each image is. Videos and sounds are refused.

A row has images in the parts of its messages, or in a column ``images`` (or ``image``): paths, bytes, objects with
``bytes`` or ``path`` (Parquet columns of `datasets`), or Pillow's pictures. They go, in order, to the parts of messages
without a source and to the marks ``<image>`` in texts, as LLaVA, LLaMA-Factory and ms-swift write them; without either,
before the text of the first user's message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from burnish.data.formats.fields import kind
from burnish.data.formats.format import MEDIA_COLUMNS, Convert
from burnish.data.records import (
    AnyExample,
    Conversation,
    ImagePart,
    Labelled,
    Message,
    Part,
    Ranked,
    Scored,
    Stepped,
    Task,
    TextPart,
)
from burnish.data.row import Row
from burnish.errors import DataError
from burnish.vision.sources import source_of

_REFUSED = ("videos", "audios", "video", "audio")
_SINGLE = ("image", "video", "audio")
"""Columns that may also have another meaning (a container's image, say)."""
_ALL = frozenset((*MEDIA_COLUMNS, *_REFUSED))
_MARK = re.compile(r"<\|?(image|video|audio)(_pad)?\|?>")
_IMAGE_MARK = "<image>"


@dataclass(frozen=True, slots=True)
class WithMedia:
    """Conversion of rows that puts the images of a column into the messages."""

    convert: Convert

    def __call__(self, row: Row) -> AnyExample:
        if _ALL.isdisjoint(row):
            return _require_sources(self.convert(row))
        present = [name for name in _ALL if row.get(name) and (name not in _SINGLE or _is_medium(row, name))]
        if refused := sorted(set(present) & set(_REFUSED)):
            raise DataError(
                given=f"the row has a column {refused[0]}",
                rule="videos and sounds are not implemented: models are given text and images",
                remedy=f"remove the column {refused[0]} and the marks in the text, or leave such rows out",
            )
        if len(present) > 1:
            raise DataError(
                given="the row has the columns image and images",
                rule="the images of a row are in one column",
                remedy="remove one of the two, or rename it",
            )
        if not present:
            return _require_sources(self.convert(row))
        sources = tuple(_sources(row[present[0]], present[0]))
        return _with_images(self.convert({name: row[name] for name in row if name not in present}), sources)


def _is_medium(row: Row, column: str) -> bool:
    """True if the value is an image or an object or list of it, or the row's text or parts have a place for it. A path,
    a URL or a number alone says where a row comes from, say: its column is without use."""
    return not isinstance(row[column], str | int | float) or any(map(_has_mark, row.values()))


def _has_mark(value: object) -> bool:
    if isinstance(value, str):
        return _MARK.search(value) is not None
    if isinstance(value, Mapping):
        return value.get("type") == "image" or any(map(_has_mark, value.values()))
    return isinstance(value, list) and any(map(_has_mark, value))


def _sources(value: object, column: str) -> Iterator[str]:
    """Sources of the images in a column."""
    for number, entry in enumerate(value if isinstance(value, list | tuple) else [value]):
        source = source_of(entry)
        if source is None:
            raise DataError(
                given=f"{column}[{number}] is {kind(entry)}",
                rule="an image is a path, bytes, base64, a data URL, or an object with bytes or path",
                remedy="correct the entry, or delete the row",
            )
        yield source


def _with_images(example: AnyExample, sources: tuple[str, ...]) -> AnyExample:
    """The example with these images at its places.

    Raises:
        DataError: it is plain text, or it has more or fewer places than images.
    """
    messages = _messages(example)
    if messages is None:
        raise DataError(
            given=f"{len(sources)} images, and the row is plain text",
            rule="images are in messages, which a chat template writes",
            remedy="write messages, or name the column of the prompt question, which makes it a user's message",
        )
    return _with_messages(example, with_images(messages, sources))


def with_images(messages: tuple[Message, ...], sources: tuple[str, ...]) -> tuple[Message, ...]:
    """The messages with these images at their places, or before the first user's text if there are none.

    Raises:
        DataError: places and images differ in number.
    """
    waiting = list(reversed(sources))
    placed = tuple(_placed(message, waiting) for message in messages)
    taken = len(sources) - len(waiting)
    if waiting and not taken:
        placed, waiting = _before_first(placed, sources), []
    if waiting:
        raise _wrong_number(taken, len(sources))
    if missing := sum(not source for message in placed for source in message.images):
        raise _wrong_number(missing + len(sources), len(sources))
    return placed


def _placed(message: Message, waiting: list[str]) -> Message:
    """The message with images at its marks and at its parts without a source, taken from the end of a list."""
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ImagePart):
            parts.append(part if part.source or not waiting else ImagePart(waiting.pop()))
            continue
        pieces = part.text.split(_IMAGE_MARK) if message.role != "assistant" else [part.text]
        for number, piece in enumerate(pieces):
            if number:
                parts.append(ImagePart(waiting.pop() if waiting else ""))
            parts += [TextPart(piece)] if piece else []
    has_image = any(isinstance(part, ImagePart) for part in parts)
    return replace(message, content=tuple(parts)) if has_image else message


def _before_first(messages: tuple[Message, ...], sources: tuple[str, ...]) -> tuple[Message, ...]:
    """The images before the text of the first user's message."""
    at = next((index for index, message in enumerate(messages) if message.role == "user"), None)
    if at is None:
        raise _wrong_number(0, len(sources))
    images = tuple(ImagePart(source) for source in sources)
    shown = replace(messages[at], content=(*images, *messages[at].parts))
    return (*messages[:at], shown, *messages[at + 1 :])


def _require_sources(example: AnyExample) -> AnyExample:
    """The example of a row without a column of images, if each of its images has a source.

    Raises:
        DataError: an image has none.
    """
    images = [source for message in _messages(example) or () for source in message.images]
    if all(images):
        return example
    raise _wrong_number(sum(not source for source in images), 0)


def _wrong_number(places: int, count: int) -> DataError:
    return DataError(
        given=f"{places} places for images (marks {_IMAGE_MARK} or parts of the type image), and {count} images",
        rule="each image of a row has one place, in order",
        remedy="correct the marks in the text, or the column of the images",
    )


def _messages(example: AnyExample) -> tuple[Message, ...] | None:
    """Messages that may have images: all of a conversation, or those of a prompt; None: the example is plain text."""
    if isinstance(example, Conversation):
        return example.messages
    prompt = getattr(example, "prompt", None)
    return prompt if isinstance(prompt, tuple) else None


def _with_messages(example: AnyExample, messages: tuple[Message, ...]) -> AnyExample:
    if isinstance(example, Conversation):
        return replace(example, messages=messages)
    assert isinstance(example, Ranked | Labelled | Scored | Stepped | Task), "plain text has no messages"
    return replace(example, prompt=messages)
