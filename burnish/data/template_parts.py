"""Parts of a row that the chat template does not write: found by rendering, once for each shape of a row.

Used by `rendering` and `generation_prompt`. A template may drop anything: a role that it does not know, reasoning,
tools, calls, results, text beside a call. The shape of a conversation is the roles and keys of its messages, with
repeated turns merged. For a shape, a conversation is rendered in which each part is a word of its own
(`probe_words`): a part whose word is in the text is written. A part whose word is missing is changed alone; if no text
changes, the template drops it. Its texts are that of the whole conversation, and that of its own turn (an assistant's)
or of the next answer, as in serving: templates that strip the reasoning of earlier turns are no fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from burnish.data.message_shape import MessageShape, merged_turns, shape_of_message
from burnish.data.probe_words import KEY, OTHER_WORD, TOOL_WORD, probe_changes, probe_messages, probe_tool
from burnish.data.records import Conversation, Message
from burnish.data.settings import TrainOn
from burnish.data.turn import CLOSE_REASONING, REASONING_KEYS, render_turn
from burnish.data.writer import Script, Writer
from burnish.errors import DataError

Shape = tuple[tuple[MessageShape, ...], str]
"""Shapes of the messages, and the form of the tools: none, flat or nested."""

_THOUGHTS = ("reasoning", "thought")
_UNLEARNED: Mapping[TrainOn, tuple[str, ...]] = {"answers": _THOUGHTS, "tool_calls": (*_THOUGHTS, "content")}
"""Parts of an assistant's message that may be dropped, since they are not learned. In a prompt its thoughts may be."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Part of a conversation that the template does not write. Example: ``Dropped("reasoning", 1)``."""

    kind: str
    """content, reasoning, thought (in the content), calls or tools."""
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
        self._findings: dict[tuple[Shape, bool], Findings] = {}
        self._known = _Known({}, {})
        self._last: tuple[Conversation | None, Shape, Sequence[int]] = (None, ((), ""), ())

    def require_all(self, conversation: Conversation, train_on: TrainOn | None = None) -> None:
        """Raises DataError if the template drops a part of the conversation.

        Args:
            conversation: messages and tools.
            train_on: the learned parts; None: the conversation is a prompt.
        """
        shape, indices = self._shape(conversation)
        allowed = _allowed(train_on)
        for dropped in self._of(shape, is_prompt=train_on is None).dropped:
            if not self._is_allowed(shape, dropped, allowed):
                at = indices[dropped.message] if dropped.message >= 0 else -1
                if train_on and self._is_in_prompt(shape, dropped):
                    raise _only_in_prompt(conversation, at)
                raise _dropped_error(conversation, dropped.kind, at, train_on)

    def unused_keys(self, conversation: Conversation, train_on: TrainOn | None = None) -> tuple[str, ...]:
        """Keys of messages that the template does not read, see `require_all`."""
        return self._of(self._shape(conversation)[0], is_prompt=train_on is None).unused_keys

    def remarks(self, conversation: Conversation, train_on: TrainOn) -> Iterator[str]:
        """What a report says about such a row, after "4 rows"."""
        shape, _ = self._shape(conversation)
        messages, _ = shape
        if self._writer.forms.developer == "system" and any(message.role == "developer" for message in messages):
            yield "have a message of the role developer, which the template lacks: it is written as system"
        if conversation.messages[0].trained:
            yield "begin with a message of the assistant, which is not learned: it answers nothing"
        allowed, found = _allowed(train_on), self._of(shape, is_prompt=False).dropped
        for kind in dict.fromkeys(d.kind for d in found if self._is_allowed(shape, d, allowed)):
            yield f"have {kind} that the template does not write, and train_on={train_on} does not learn it"

    def _is_in_prompt(self, shape: Shape, dropped: Dropped) -> bool:
        """True for a system message that the template writes only until an answer follows (Mistral's)."""
        messages, tools = shape
        if dropped.kind != "content" or messages[dropped.message].role not in ("system", "developer"):
            return False
        answers = (i for i in range(dropped.message, len(messages)) if messages[i].role == "assistant")
        prompt = messages[: next(answers, len(messages))], tools
        return dropped not in self._of(prompt, is_prompt=True).dropped

    @staticmethod
    def _is_allowed(shape: Shape, dropped: Dropped, allowed: Sequence[str]) -> bool:
        messages, _ = shape
        return dropped.kind in allowed and messages[dropped.message].role == "assistant"

    def _shape(self, conversation: Conversation) -> tuple[Shape, Sequence[int]]:
        """`_shape` of a conversation, which is asked for several times in a row."""
        if self._last[0] is not conversation:
            self._last = (conversation, *_shape(conversation))
        return self._last[1:]

    def _of(self, shape: Shape, *, is_prompt: bool) -> Findings:
        if (shape, is_prompt) not in self._findings:
            probe = _Probe(self._writer, shape, is_prompt, self._known)
            self._findings[shape, is_prompt] = probe.findings()
        return self._findings[shape, is_prompt]


def _allowed(train_on: TrainOn | None) -> Sequence[str]:
    """Parts of an assistant's message that may be dropped."""
    return _UNLEARNED.get(train_on, ()) if train_on else _THOUGHTS


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


class _Part(NamedTuple):
    """Part of a conversation of probe words."""

    kind: str
    """As in `Dropped`, or `KEY`."""
    message: int
    key: str
    """Name of a key without meaning; otherwise what tells apart the parts of a kind."""
    word: str
    """Word that is in the text if the part is written; "": it has none."""
    other: Message | None
    """The message with another value of the part; None: the part is the tools."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What single changes have shown of a template."""

    in_turns: dict[tuple[object, ...], bool]
    """(Shapes of the messages of a user's turn, part): whether the template writes it."""
    in_messages: dict[tuple[MessageShape, str, str], bool]
    """(Shape of a message, part without its word in the text): whether a change of it changes the text."""


class _Probe:
    """Conversation with a shape in which every part is a word of its own."""

    def __init__(self, writer: Writer, shape: Shape, is_prompt: bool, known: _Known) -> None:
        self._messages, self._tools = shape
        self._is_prompt, self._known, self._writer = is_prompt, known, writer
        self._plain = Conversation(
            probe_messages(self._messages), (probe_tool(TOOL_WORD, self._tools),) if self._tools else ()
        )
        self._script = writer.script(self._plain)
        self._texts: dict[int, str | None] = {}

    def findings(self) -> Findings:
        """Seeks the word of each part in the text, and changes the parts whose word is missing."""
        dropped, unused = dict[Dropped, None](), dict[str, None]()
        for part in self._parts():
            if self._is_written(part):
                continue
            if part.kind == KEY:
                unused[part.key] = None
            else:
                dropped[Dropped(part.kind, part.message)] = None
        return Findings(tuple(dropped), tuple(unused))

    def _parts(self) -> Iterator[_Part]:
        for index, shape in enumerate(self._messages):
            for kind, key, word, other in probe_changes(shape, self._plain.messages[index], index):
                yield _Part(kind, index, key, word, other)
        if self._tools:
            yield _Part("tools", -1, "", TOOL_WORD, None)

    def _changed(self, part: _Part) -> Conversation:
        """The conversation with another value of a part."""
        if part.other is None:
            return replace(self._plain, tools=(probe_tool(OTHER_WORD, self._tools),))
        messages, index = self._plain.messages, part.message
        return replace(self._plain, messages=(*messages[:index], part.other, *messages[index + 1 :]))

    def _is_written(self, part: _Part) -> bool:
        index = max(part.message, 0)
        turn, whole = self._turn(index), self._text(self._whole)
        if whole is None:
            return self._is_read(part, turn)
        if part.word and part.word in whole:
            return True
        start = next((i for i in range(index, 0, -1) if self._messages[i].role == "user"), 0)
        is_first = not any(message.role == "assistant" for message in self._messages[:start])
        context = self._messages[start : turn + 1], self._tools, self._is_prompt, is_first
        place = (*context, index - start, part.kind, part.key)
        if place not in self._known.in_turns:
            self._known.in_turns[place] = self._is_read(part, turn)
        return self._known.in_turns[place]

    def _is_read(self, part: _Part, turn: int) -> bool:
        """False if the text of the turn, and of the whole, are the same with a changed part. (A refusal shows that it
        is read.)"""
        own = self._text(turn)
        if own is None or (part.word and part.word in own):
            return True
        known, place = self._known.in_messages, (self._messages[part.message], part.kind, part.key)
        if known.get(place) is False or (part.kind == KEY and place in known):
            return known[place]
        script = self._writer.script(self._changed(part))
        read = any(self._render(script, at) != self._text(at) for at in dict.fromkeys((turn, self._whole)))
        known[place] = read
        return read

    @property
    def _whole(self) -> int:
        """Index of the last message of the whole text: of the last answer, or the end of a prompt."""
        answers = (i for i in reversed(range(len(self._messages))) if self._messages[i].role == "assistant")
        return len(self._messages) if self._is_prompt else next(answers, len(self._messages))

    def _turn(self, index: int) -> int:
        """Index of the answer in whose text a message is read; the number of messages: in that of the prompt."""
        count = len(self._messages)
        return next((i for i in range(index, count) if self._messages[i].role == "assistant"), count)

    def _text(self, turn: int) -> str | None:
        if turn not in self._texts:
            self._texts[turn] = self._render(self._script, turn)
        return self._texts[turn]

    def _render(self, script: Script, turn: int) -> str | None:
        """Text up to the end of an answer, or of the prompt; None: refused."""
        try:
            if turn == len(self._messages):
                return script.write(turn, add_generation_prompt=True)
            return render_turn(script, turn)[1]
        except DataError:
            return None


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


def _only_in_prompt(conversation: Conversation, at: int) -> DataError:
    role = conversation.messages[at].role
    return DataError(
        given=f"messages[{at}].content ({role}) is written in the prompt, but not once an answer follows: with it the "
        "chat template writes nothing of it",
        rule="what a row says reaches the model: contents, reasoning, tools, calls and results",
        remedy=f"put the {role} text into the first user message, or name a template that writes it (chat_template)",
    )


def _key_of(kind: str, message: Message) -> str:
    if kind == "reasoning":
        return next(key for key in REASONING_KEYS if message.extra.get(key))
    return {"calls": "tool_calls", "thought": f"content before {CLOSE_REASONING}"}.get(kind, kind)
