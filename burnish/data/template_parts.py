"""Parts of a row that the chat template does not write: found by rendering, once for each shape of a row.

Used by `rendering` and `generation_prompt`. A template may drop anything: a role that it does not know, reasoning,
tools, calls, results, text beside a call. The shape of a conversation is the roles and keys of its messages, with
repeated turns merged. For a shape, a conversation of probe words is rendered, and again with another word for each
part; if the text does not change, the template drops that part. What a message says is in the text of its own turn
(an assistant's) or of the next answer, as in serving: templates that strip the reasoning of earlier turns are no fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from burnish.data.message_shape import CallShape, MessageShape, merged_turns, shape_of_message
from burnish.data.records import Conversation, Message
from burnish.data.settings import TrainOn
from burnish.data.turn import CLOSE_REASONING, OPEN_REASONING, REASONING_KEYS, render_turn
from burnish.data.writer import Writer
from burnish.errors import DataError

Shape = tuple[tuple[MessageShape, ...], str]
"""Shapes of the messages, and the form of the tools: none, flat or nested."""

_UNLEARNED: Mapping[TrainOn, tuple[str, ...]] = {"answers": ("reasoning",), "tool_calls": ("reasoning", "content")}
"""Parts of an assistant's message that may be dropped, since they are not learned."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Part of a conversation that the template does not write. Example: ``Dropped("reasoning", 1)``."""

    kind: str
    """content, reasoning, calls or tools; or, of a key without meaning for us, its name."""
    message: int
    """Index of its message among the merged ones; -1: it is no message's."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the template does with the rows of a shape."""

    dropped: tuple[Dropped, ...]
    """Parts that say something."""
    unused_keys: tuple[str, ...]
    """Keys of messages that the template does not read and that say nothing to the model, such as id."""


class TemplateParts:
    """Finds what a template drops; remembers it for every shape."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._findings: dict[Shape, Findings] = {}
        self._last: tuple[Conversation | None, Shape, Sequence[int]] = (None, ((), ""), ())

    def require_all(self, conversation: Conversation, train_on: TrainOn | None = None) -> None:
        """Raises DataError if the template drops a part of the conversation.

        Args:
            conversation: messages and tools.
            train_on: the learned parts; None: the conversation is a prompt.
        """
        shape, indices = self._shape(conversation)
        allowed = _UNLEARNED.get(train_on, ()) if train_on else ()
        for dropped in self._of(shape).dropped:
            if not self._is_allowed(shape, dropped, allowed):
                at = indices[dropped.message] if dropped.message >= 0 else -1
                raise _dropped_error(conversation, dropped.kind, at, train_on)

    def unused_keys(self, conversation: Conversation) -> tuple[str, ...]:
        """Keys of messages that the template does not read."""
        return self._of(self._shape(conversation)[0]).unused_keys

    def remarks(self, conversation: Conversation, train_on: TrainOn) -> Iterator[str]:
        """What a report says about such a row, after "4 rows"."""
        shape, _ = self._shape(conversation)
        messages, _ = shape
        if self._writer.forms.developer == "system" and any(message.role == "developer" for message in messages):
            yield "have a message of the role developer, which the template lacks: it is written as system"
        if conversation.messages[0].trained:
            yield "begin with a message of the assistant, which is not learned: it answers nothing"
        allowed = _UNLEARNED.get(train_on, ())
        for kind in dict.fromkeys(d.kind for d in self._of(shape).dropped if self._is_allowed(shape, d, allowed)):
            yield f"have {kind} that the template does not write, and train_on={train_on} does not learn it"

    @staticmethod
    def _is_allowed(shape: Shape, dropped: Dropped, allowed: Sequence[str]) -> bool:
        messages, _ = shape
        return dropped.kind in allowed and messages[dropped.message].role == "assistant"

    def _shape(self, conversation: Conversation) -> tuple[Shape, Sequence[int]]:
        """`_shape` of a conversation, which is asked for several times in a row."""
        if self._last[0] is not conversation:
            self._last = (conversation, *_shape(conversation))
        return self._last[1:]

    def _of(self, shape: Shape) -> Findings:
        if shape not in self._findings:
            self._findings[shape] = _Probe(self._writer, shape).findings()
        return self._findings[shape]


@lru_cache(maxsize=8)
def parts_of(writer: Writer) -> TemplateParts:
    """Returns what is known of a writer's template; the same for every call."""
    return TemplateParts(writer)


def _shape(conversation: Conversation) -> tuple[Shape, Sequence[int]]:
    """Shape of a conversation, and the indices of the messages that stand for all."""
    shapes = [shape_of_message(message) for message in conversation.messages]
    indices = merged_turns(shapes)
    tools = conversation.tools
    form = "" if not tools else "nested" if all("function" in tool for tool in tools) else "flat"
    return (tuple(shapes[index] for index in indices), form), indices


@dataclass(frozen=True, eq=False)
class _Probe:
    """Conversation of probe words with a shape."""

    writer: Writer
    shape: Shape

    def findings(self) -> Findings:
        """Renders the conversation, and again with each part changed."""
        dropped, unused = list[Dropped](), list[str]()
        messages, tools = self.shape
        for index, message in enumerate(messages):
            parts = dict(_changes(message, self._plain.messages[index]))
            for kind, changed in parts.items():
                changed_messages = (*self._plain.messages[:index], changed, *self._plain.messages[index + 1 :])
                if self._is_written(index, replace(self._plain, messages=changed_messages)):
                    continue
                if kind in _MEANINGS:
                    dropped.append(Dropped(kind, index))
                else:
                    unused.append(kind)
        if tools and not self._is_written(0, replace(self._plain, tools=(_tool(_OTHER, tools),))):
            dropped.append(Dropped("tools", -1))
        return Findings(tuple(dropped), tuple(dict.fromkeys(unused)))

    @cached_property
    def _plain(self) -> Conversation:
        shapes, tools = self.shape
        return Conversation(_messages(shapes), (_tool(_TOOL, tools),) if tools else ())

    @cached_property
    def _texts(self) -> Mapping[int, str | None]:
        """Text in which each message is read."""
        return {index: self._text(index, self._plain) for index in range(len(self.shape[0]))}

    def _is_written(self, index: int, changed: Conversation) -> bool:
        """False if the text of message `index` is the same with a changed part. (A refusal shows that it is read.)"""
        plain = self._texts[index]
        return plain is None or self._text(index, changed) != plain

    def _text(self, index: int, conversation: Conversation) -> str | None:
        """Text in which message `index` is read: of its turn, of the next answer, or of the prompt; None: refused."""
        messages = conversation.messages
        turn = next((i for i in range(index, len(messages)) if messages[i].role == "assistant"), None)
        script = self.writer.script(conversation)
        try:
            if turn is None:
                return script.write(len(messages), add_generation_prompt=True)
            return render_turn(script, turn)[1]
        except DataError:
            return None


_MEANINGS = ("content", "reasoning", "calls", "thought")
_TOOL, _OTHER = "burnish00", "another00"


def _word(number: int) -> str:
    """Word of nine letters and digits, as the ids of some templates must be."""
    return f"burnish{number:02d}"


def _messages(shapes: Sequence[MessageShape]) -> tuple[Message, ...]:
    """Messages of these shapes; results have the ids and the name of the calls before them."""
    messages, ids = list[Message](), list[str]()
    for number, shape in enumerate(shapes):
        extra: dict[str, object] = {}
        for key, form in shape.keys:
            if key == "tool_calls":
                ids = [f"call{number:02d}{at:03d}" for at in range(len(shape.calls))]
                extra[key] = [_call(call, ids[at]) for at, call in enumerate(shape.calls)]
            elif key == "tool_call_id" and ids:
                extra[key] = ids.pop(0)
            elif key == "name" and shape.role == "tool":
                extra[key] = _TOOL
            else:
                extra[key] = _value(form, _word(number))
        messages.append(Message(shape.role, _content(shape.content, _word(number)), extra))
    return tuple(messages)


def _content(kind: str, word: str) -> str | None:
    if kind == "thought":
        return f"{OPEN_REASONING}\nthought {word}\n{CLOSE_REASONING}\n\n{word}"
    return {"none": None, "blank": ""}.get(kind, word)


def _value(form: str, word: str) -> object:
    """A value of a key without meaning for us."""
    number = 2 if word == _OTHER else 1
    values: dict[str, object] = {"bool": number == 1, "int": number, "float": number, "list": [word]}
    return values.get(form, {"type": word} if form == "dict" else word)


def _call(shape: CallShape, id: str, name: str = _TOOL, argument: str = "argument0") -> dict[str, object]:
    inner: dict[str, object] = {"name": name}
    if shape.arguments:
        inner["arguments"] = {"town": argument} if shape.arguments == "dict" else argument
    function = {"function": inner} if shape.nested else inner
    known = {"id": id, "type": "function", **function}
    return {key: known.get(key, id) for key in shape.keys}


def _tool(word: str, form: str) -> dict[str, object]:
    parameters = {"type": "object", "properties": {word: {"type": "string", "description": word}}, "required": [word]}
    function: dict[str, object] = {"name": word, "description": word, "parameters": parameters}
    return {"type": "function", "function": function} if form == "nested" else function


def _changes(shape: MessageShape, message: Message) -> Iterator[tuple[str, Message]]:
    """Kind of each part of a message, and the message with another value of it."""
    text, extra = message.content, message.extra
    assert text is None or isinstance(text, str), "probe words are text"
    if shape.content == "thought":
        thought, _, answer = (text or "").rpartition(CLOSE_REASONING)
        yield "thought", replace(message, content=f"{OPEN_REASONING}\n{_OTHER}\n{CLOSE_REASONING}{answer}")
        if answer.strip():
            yield "content", replace(message, content=f"{thought}{CLOSE_REASONING}\n\n{_OTHER}")
    elif shape.content == "text":
        yield "content", replace(message, content=_OTHER)
    reasoning = {key: _OTHER for key, _ in shape.keys if key in REASONING_KEYS}
    if reasoning:
        yield "reasoning", replace(message, extra={**extra, **reasoning})
    for key, form in shape.keys:
        if key == "tool_calls":
            yield from (("calls", replace(message, extra=other)) for other in _other_calls(shape, extra))
        elif key not in REASONING_KEYS:
            yield key, replace(message, extra={**extra, key: _value(form, _OTHER)})


def _other_calls(shape: MessageShape, extra: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The keys of a message with another name, or another argument, of one of its calls."""
    calls = extra["tool_calls"]
    assert isinstance(calls, list), "probe calls are a list"
    for at, call in enumerate(shape.calls):
        others = [_call(call, calls[at].get("id", ""), name=_OTHER)]
        others += [_call(call, calls[at].get("id", ""), argument=_OTHER)] if call.arguments else []
        yield from ({**extra, "tool_calls": [*calls[:at], other, *calls[at + 1 :]]} for other in others)


def _dropped_error(conversation: Conversation, kind: str, at: int, train_on: TrainOn | None) -> DataError:
    template = "name a template that writes it (chat_template)"
    if kind == "tools":
        what, remedy = "tools", f"{template}, or remove tools from the row"
    else:
        message = conversation.messages[at]
        beside = ", with tool_calls" if message.extra.get("tool_calls") and kind != "calls" else ""
        what = f"messages[{at}].{_key_of(kind, message)} ({message.role}{beside})"
        remedy = f"{template}, or remove it from the row"
        if kind in ("reasoning", "thought") and train_on:
            remedy = f"{template}, learn the answers without it (train_on=answers), or remove it from the row"
        elif kind == "content":
            remedy = f"{template}, or remove it from the row, or the message"
    return DataError(
        given=f"the chat template writes nothing of {what}",
        rule="what a row says reaches the model: contents, reasoning, tools, calls and results",
        remedy=remedy,
    )


def _key_of(kind: str, message: Message) -> str:
    if kind == "reasoning":
        return next(key for key in REASONING_KEYS if message.extra.get(key))
    return {"calls": "tool_calls", "thought": f"content before {CLOSE_REASONING}"}.get(kind, kind)
