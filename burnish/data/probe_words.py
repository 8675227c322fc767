"""Conversations of probe words: every part that a message of a shape has is a word of its own.

Used by `template_parts`, which seeks the words in texts, and changes one part at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from burnish.data.message_shape import CallShape, MessageShape
from burnish.data.records import Message
from burnish.data.turn import CLOSE_REASONING, OPEN_REASONING, REASONING_KEYS

KEY = "key"
"""Kind of the keys that say nothing to the model."""
TOOL_WORD, OTHER_WORD = "burnishtoolsz", "another00"
_NUMBERS = ("bool", "int", "float")
"""Types of values that no word shows."""

Change = tuple[str, str, str, Message]
"""Kind of a part (content, thought, reasoning, calls or `KEY`), its key, its word ("": none), and the message with
another value of it."""


def _word(message: int, part: str) -> str:
    """Word of a part; none contains another one."""
    return f"burnish{message}{part}z"


def probe_messages(shapes: Sequence[MessageShape]) -> tuple[Message, ...]:
    """Returns messages of these shapes; results have the ids and names of the calls before them. Ids have nine
    characters, as some templates want them."""
    messages, ids, names = list[Message](), list[str](), list[str]()
    for number, shape in enumerate(shapes):
        extra: dict[str, object] = {}
        for at, (key, form) in enumerate(shape.keys):
            if key == "tool_calls":
                ids = [f"call{number % 100:02d}{call:03d}" for call in range(len(shape.calls))]
                names = [_call_words(number, call)[0] for call in range(len(shape.calls))]
                extra[key] = [_call(call, ids[i], *_call_words(number, i)) for i, call in enumerate(shape.calls)]
            elif key == "tool_call_id" and ids:
                extra[key] = ids.pop(0)
            elif key == "name" and shape.role == "tool" and names:
                extra[key] = names.pop(0)
            elif key in REASONING_KEYS:
                extra[key] = _word(number, "reasoning")
            else:
                extra[key] = _value(form, _word(number, f"key{at}"))
        messages.append(Message(shape.role, _content(shape.content, number), extra))
    return tuple(messages)


def probe_tool(word: str, form: str) -> dict[str, object]:
    """Returns a tool of this word, in the form nested or flat."""
    parameters = {"type": "object", "properties": {word: {"type": "string", "description": word}}, "required": [word]}
    function: dict[str, object] = {"name": word, "description": word, "parameters": parameters}
    return {"type": "function", "function": function} if form == "nested" else function


def probe_changes(shape: MessageShape, message: Message, number: int) -> Iterator[Change]:
    """Yields the changes of each part of a message of `probe_messages`."""
    text, extra = message.content, message.extra
    assert text is None or isinstance(text, str), "probe words are text"
    if shape.content == "thought":
        thought, _, answer = (text or "").rpartition(CLOSE_REASONING)
        other = replace(message, content=f"{OPEN_REASONING}\n{OTHER_WORD}\n{CLOSE_REASONING}{answer}")
        yield "thought", "", _word(number, "thought"), other
        other = replace(message, content=f"{thought}{CLOSE_REASONING}\n\n{OTHER_WORD}")
        yield "content", "", _word(number, "content"), other
    elif shape.content == "text":
        yield "content", "", _word(number, "content"), replace(message, content=OTHER_WORD)
    if reasoning := {key: OTHER_WORD for key, _ in shape.keys if key in REASONING_KEYS}:
        yield "reasoning", "", _word(number, "reasoning"), replace(message, extra={**extra, **reasoning})
    for at, (key, form) in enumerate(shape.keys):
        if key == "tool_calls":
            yield from _call_changes(shape, message, number)
        elif key not in REASONING_KEYS:
            shared = key == "tool_call_id" or (key == "name" and shape.role == "tool")  # with the call
            word = "" if form in _NUMBERS or shared else _word(number, f"key{at}")
            yield KEY, key, word, replace(message, extra={**extra, key: _value(form, OTHER_WORD)})


def _call_changes(shape: MessageShape, message: Message, number: int) -> Iterator[Change]:
    """The message with another name, or another argument, of one of its calls."""
    calls = message.extra["tool_calls"]
    assert isinstance(calls, list), "probe calls are a list"
    for at, call in enumerate(shape.calls):
        name, argument = _call_words(number, at)
        id = str(calls[at].get("id", ""))
        others = {"name": (name, _call(call, id, OTHER_WORD, argument))}
        if call.arguments:
            others["argument"] = argument, _call(call, id, name, OTHER_WORD)
        for key, (word, other) in others.items():
            if other != calls[at]:
                extra = {**message.extra, "tool_calls": [*calls[:at], other, *calls[at + 1 :]]}
                yield "calls", f"{key}{at}", word, replace(message, extra=extra)


def _call_words(number: int, at: int) -> tuple[str, str]:
    """Name and argument of a call."""
    return _word(number, f"name{at}"), _word(number, f"argument{at}")


def _call(shape: CallShape, id: str, name: str, argument: str) -> dict[str, object]:
    inner: dict[str, object] = {"name": name}
    if shape.arguments:
        inner["arguments"] = {"town": argument} if shape.arguments == "dict" else argument
    function = {"function": inner} if shape.nested else inner
    known = {"id": id, "type": "function", **function}
    return {key: known.get(key, id) for key in shape.keys}


def _content(kind: str, number: int) -> str | None:
    word = _word(number, "content")
    if kind == "thought":
        return f"{OPEN_REASONING}\n{_word(number, 'thought')}\n{CLOSE_REASONING}\n\n{word}"
    return {"none": None, "blank": ""}.get(kind, word)


def _value(form: str, word: str) -> object:
    """A value of a key without meaning for us."""
    number = 2 if word == OTHER_WORD else 1
    values: Mapping[str, object] = {"bool": number == 1, "int": number, "float": number, "list": [word]}
    return values.get(form, {"type": word} if form == "dict" else word)
