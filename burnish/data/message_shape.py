"""Shape of a message: its role and keys, without what they say; and the messages that stand for all of a row.

Used by `template_parts`, for every row: it is made to be quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from burnish.data.records import Message

_FEW = 6
"""Messages up to which none are merged."""
_REMEMBERED = 64
"""Messages up to which the merged ones are remembered."""
_MAX_CALLS = 3
"""Calls of a message that are told apart."""
_CLOSE = "</think>"


class CallShape(NamedTuple):
    """Shape of a tool call."""

    keys: tuple[str, ...]
    """Keys of the call, sorted."""
    nested: bool
    """True if name and arguments are in an object ``function``."""
    arguments: str
    """Type of the arguments; "": none."""


class MessageShape(NamedTuple):
    """Shape of a message. Example: ``MessageShape("user", "text", (), ())``."""

    role: str
    content: str
    """none, blank, text, or thought (an assistant's text with the end of its reasoning)."""
    keys: tuple[tuple[str, str], ...]
    """(Key, type of its value) of all other keys with a value, sorted."""
    calls: tuple[CallShape, ...]


_PLAIN = {
    (role, content): MessageShape(role, content, (), ())
    for role in ("system", "developer", "user", "assistant", "tool")
    for content in ("none", "blank", "text", "thought")
}


def shape_of_message(message: Message) -> MessageShape:
    """Returns the shape of a message."""
    role, content = message.role, _content_kind(message)
    if not message.extra:
        return _PLAIN[role, content]
    keys = tuple(sorted((key, type(value).__name__) for key, value in message.extra.items() if value or value == 0))
    calls = message.extra.get("tool_calls")
    shapes = tuple(map(_call_shape, calls[:_MAX_CALLS])) if isinstance(calls, list) else ()
    return MessageShape(role, content, keys, shapes)


def _content_kind(message: Message) -> str:
    text = message.content
    if text is None:
        return "none"
    if not isinstance(text, str):  # parts; rendering joins or refuses them
        return "text"
    if not text or text.isspace():
        return "blank"
    return "thought" if message.role == "assistant" and _CLOSE in text else "text"


def _call_shape(call: Mapping[str, object]) -> CallShape:
    inner = call.get("function")
    nested = isinstance(inner, Mapping)
    arguments = (inner if isinstance(inner, Mapping) else call).get("arguments")
    return CallShape(tuple(sorted(call)), nested, "" if arguments is None else type(arguments).__name__)


def merged_turns(shapes: Sequence[MessageShape]) -> Sequence[int]:
    """Indices of the messages that stand for all: of user turns, and of answers within a turn, that have the same
    shape, the first and the last. So the number of shapes does not grow with the number of turns.

    Example: of user, assistant, user, assistant, user, assistant, user, assistant: the first two and the last two.
    """
    if len(shapes) <= _FEW:
        return range(len(shapes))
    return _merged(tuple(shapes)) if len(shapes) <= _REMEMBERED else _merged.__wrapped__(tuple(shapes))


@lru_cache(maxsize=4096)
def _merged(shapes: tuple[MessageShape, ...]) -> Sequence[int]:
    return _distinct([_merged_answers(shapes, part) for part in _parts(shapes, range(len(shapes)), "user")], shapes)


def _merged_answers(shapes: Sequence[MessageShape], turn: Sequence[int]) -> list[int]:
    return _distinct(_parts(shapes, turn, "assistant"), shapes)


def _parts(shapes: Sequence[MessageShape], indices: Sequence[int], role: str) -> list[list[int]]:
    """Divides messages before each one of a role."""
    parts: list[list[int]] = [[]]
    for index in indices:
        if shapes[index].role == role and parts[-1]:
            parts.append([])
        parts[-1].append(index)
    return parts


def _distinct(parts: Sequence[Sequence[int]], shapes: Sequence[MessageShape]) -> list[int]:
    """Indices of the first part of each shape, and of the last part."""
    seen: set[tuple[MessageShape, ...]] = set()
    kept: list[int] = []
    for number, part in enumerate(parts):
        shape = tuple(shapes[index] for index in part)
        if shape not in seen or number == len(parts) - 1:
            kept += part
        seen.add(shape)
    return kept
