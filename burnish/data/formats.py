"""What a row means: columns are recognised as a format, which turns rows into conversations or completions.

Stands between `read` (rows) and `template` (text). A format is one entry of `FORMATS`: the columns that it needs and a
function of one row. A row that does not fit raises a DataError that tells what is wrong in the row; the caller knows
the file and line, and collects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from burnish.data.read import Row
from burnish.errors import DataError

ROLES = ("system", "developer", "user", "assistant", "tool")
_FOREIGN_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "function": "tool"}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Example: ``Message("assistant", "4", trained=True)``."""

    role: str
    """One of ROLES."""
    content: str | None
    """What is said; None: only in an assistant's message that calls tools."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other keys of the message that have a value (tool_calls, reasoning_content, name): the template sees them."""
    trained: bool = False
    """Whether the model is to learn to write this message; only an assistant's."""

    def as_mapping(self) -> dict[str, object]:
        """The message as templates expect it."""
        content = {} if self.content is None else {"content": self.content}
        return {"role": self.role, **content, **self.extra}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages to be rendered by a chat template."""

    messages: tuple[Message, ...]
    """In their order, at least one."""
    tools: tuple[Mapping[str, object], ...] = ()
    """JSON schemas of the tools that the template lists; empty: none."""

    @property
    def turns(self) -> tuple[int, ...]:
        """Indices of the messages to learn. A message that opens the conversation answers nothing: it is context."""
        return tuple(i for i, message in enumerate(self.messages) if message.trained and i > 0)


@dataclass(frozen=True, slots=True)
class Completion:
    """Plain text and its continuation, which is learned; no template."""

    prompt: str
    completion: str


Example = Conversation | Completion


@dataclass(frozen=True, slots=True)
class Format:
    """One way of writing examples as rows."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """Sets of columns, each of which is enough."""
    convert: Callable[[Row], Example]
    """A row's meaning; raises DataError for a row that does not fit."""
    takes: tuple[str, ...] = ()
    """Columns that it uses where they are there."""

    def unused(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Columns that play no part in what is learned."""
        used = {*self.takes, *(column for needed in self.needs for column in needed)}
        return tuple(column for column in columns if column not in used)

    def fits(self, columns: Iterable[str]) -> bool:
        return any(set(needed) <= set(columns) for needed in self.needs)

    def __str__(self) -> str:
        return f"{self.name} ({' or '.join(' + '.join(needed) for needed in self.needs)})"


def recognise(columns: Sequence[str], name: str | None = None) -> Format:
    """The format called ``name``, or the only one that the columns fit.

    Example: ``recognise(("question", "answer")).name == "question_answer"``.
    """
    if name is not None:
        return _named(columns, name)
    fitting = [entry for entry in FORMATS.values() if entry.fits(columns)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(
            given=f"the columns {', '.join(columns)} fit several formats: {', '.join(map(str, fitting))}",
            rule="what is learned is never guessed",
            remedy=f"name one: format={fitting[0].name}",
        )
    raise DataError(
        given=f"the columns {', '.join(columns)} fit no known format",
        rule=f"formats and the columns they need: {'; '.join(map(str, FORMATS.values()))}",
        remedy=_near_columns(columns, FORMATS.values()) or "rename the columns to those of one format",
    )


def _named(columns: Sequence[str], name: str) -> Format:
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1, cutoff=0.4)
        raise DataError(
            given=f"format {name!r} is unknown",
            rule=f"formats: {', '.join(FORMATS)}",
            remedy=f"did you mean {near[0]}?" if near else "name one of them, or leave format out",
        )
    chosen = FORMATS[name]
    if not chosen.fits(columns):
        raise DataError(
            given=f"format {name} was named, but the columns are {', '.join(columns)}",
            rule=f"it needs the columns {chosen}",
            remedy=_near_columns(columns, [chosen]) or "rename the columns, or leave format out",
        )
    return chosen


def _near_columns(columns: Sequence[str], formats: Iterable[Format]) -> str:
    """Did-you-mean for columns whose names are almost those of a format."""
    known = sorted({column for entry in formats for needed in entry.needs for column in needed})
    near = {column: get_close_matches(column.lower(), known, n=1, cutoff=0.75) for column in columns}
    found = [f"{column} -> {match[0]}" for column, match in near.items() if match and match[0] != column]
    return f"did you mean to rename {', '.join(found)}?" if found else ""


def _chat(row: Row) -> Conversation:
    column = "messages" if row.get("messages") is not None else "conversations"
    messages = _messages(row.get(column), column)
    return _with_something_to_learn(Conversation(messages, _tools(row.get("tools"))))


def _prompt_completion(row: Row) -> Example:
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(prompt, completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        context = tuple(replace(message, trained=False) for message in _messages(prompt, "prompt"))
        messages = context + _messages(completion, "completion")
        return _with_something_to_learn(Conversation(messages, _tools(row.get("tools"))))
    raise DataError(
        given=f"prompt is {_kind(prompt)} and completion is {_kind(completion)}",
        rule="both are text, or both are lists of messages",
        remedy="write both in the same way",
    )


def _question_answer(row: Row) -> Conversation:
    for column in ("question", "answer"):
        if not isinstance(row.get(column), str):
            raise DataError(
                given=f"{column} is {_kind(row.get(column))}",
                rule="question and answer are text",
                remedy=f"give the row a text as {column}",
            )
    question, answer = str(row["question"]), str(row["answer"])
    return Conversation((Message("user", question), Message("assistant", answer, trained=True)))


def _with_something_to_learn(conversation: Conversation) -> Conversation:
    if conversation.turns:
        return conversation
    roles = [message.role for message in conversation.messages]
    if "assistant" not in roles:
        given = f"no message is the assistant's (roles: {', '.join(roles)})"
    elif any(message.trained for message in conversation.messages):
        given = "the only assistant message to learn is the first message, which answers nothing"
    else:
        given = "every assistant message is marked weight 0 or is part of the prompt"
    raise DataError(
        given=given,
        rule="a row has at least one assistant message to learn, after a message that it answers",
        remedy="add the assistant's answer, or delete the row",
    )


def _messages(value: object, column: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise DataError(
            given=f"{column} is {_kind(value)}",
            rule=f"{column} is a list of messages: [{{role: ..., content: ...}}, ...]",
            remedy="write the messages as a list of objects",
        )
    if not value:
        raise DataError(
            given=f"{column} is empty", rule="a conversation has at least one message", remedy="delete the row"
        )
    return tuple(_message(entry, f"{column}[{index}]") for index, entry in enumerate(value))


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise DataError(
            given=f"{where} is {_kind(value)}",
            rule="a message is an object with role and content",
            remedy='write it as {"role": ..., "content": ...}',
        )
    known = {key: entry for key, entry in value.items() if entry is not None}
    role = _role(known, where)
    extra = {key: entry for key, entry in known.items() if key not in ("role", "content", "weight")}
    if "tool_calls" in extra:
        extra["tool_calls"] = _tool_calls(extra["tool_calls"], f"{where}.tool_calls")
    content = _content(known.get("content"), role, where, may_be_absent=bool(extra.get("tool_calls")))
    return Message(role, content, extra, trained=_weight(known, role, where))


def _role(message: Mapping[str, object], where: str) -> str:
    role = message.get("role")
    if role in ROLES:
        return str(role)
    rule = f"every message has a role: {', '.join(ROLES)}"
    if role is None:
        near = {"from", "value"} <= set(message)
        remedy = "rename from to role and value to content" if near else "give the message a role"
        raise DataError(given=f"{where} has no role (its keys: {', '.join(message)})", rule=rule, remedy=remedy)
    near_role = _FOREIGN_ROLES.get(str(role)) or next(iter(get_close_matches(str(role), ROLES, n=1)), None)
    remedy = f"did you mean {near_role}?" if near_role else "use one of these roles"
    raise DataError(given=f"{where} has the role {role!r}", rule=rule, remedy=remedy)


def _content(value: object, role: str, where: str, *, may_be_absent: bool) -> str | None:
    """The text; OpenAI's list of one text part is that text. Several parts have no one way of being joined."""
    if isinstance(value, str):
        return value
    if value is None and role == "assistant" and may_be_absent:
        return None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        text = value[0].get("text")
        if value[0].get("type") == "text" and isinstance(text, str):
            return text
    raise DataError(
        given=f"{where} ({role}) has {'no content' if value is None else f'{_kind(value)} as content'}",
        rule="content is text (a list with one text part counts); only an assistant that calls tools may have none",
        remedy="give the message its text as content",
    )


def _weight(message: Mapping[str, object], role: str, where: str) -> bool:
    """OpenAI's key ``weight`` (0 or 1) says whether an assistant's message is learned; without it, it is."""
    weight = message.get("weight", 1)
    if weight not in (0, 1):
        raise DataError(
            given=f"{where} has the weight {weight!r}",
            rule="a message's weight is 1 (learned) or 0 (context only)",
            remedy="write 0 or 1, or leave weight out",
        )
    return role == "assistant" and weight == 1


def _tool_calls(value: object, where: str) -> list[dict[str, object]]:
    """Calls with their arguments as objects, which is what serving hands to templates; OpenAI writes JSON text."""
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        raise DataError(given=f"{where} is {_kind(value)}", rule="tool_calls is a list of objects", remedy="correct it")
    return [_tool_call(call, f"{where}[{index}]") for index, call in enumerate(value)]


def _tool_call(call: dict[str, object], where: str) -> dict[str, object]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    arguments = _parsed(function["arguments"], f"{where}.function.arguments")
    return {**call, "function": {**function, "arguments": arguments}}


def _tools(value: object) -> tuple[Mapping[str, object], ...]:
    """The column ``tools``: a list of JSON schemas, or the JSON text of one."""
    if value is None:
        return ()
    tools = _parsed(value, "tools") if isinstance(value, str) else value
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise DataError(given=f"tools is {_kind(tools)}", rule="tools is a list of JSON schemas", remedy="correct it")
    return tuple(tools)


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            given=f"{where} is text that is not JSON: {error}", rule="it is JSON", remedy="correct the text"
        ) from error


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", list: "a list", dict: "an object", int: "a number", float: "a number"}
    return "missing" if value is None else names.get(type(value), f"a {type(value).__name__}")


FORMATS: Mapping[str, Format] = {
    entry.name: entry
    for entry in (
        Format("chat", (("messages",), ("conversations",)), _chat, takes=("tools",)),
        Format("prompt_completion", (("prompt", "completion"),), _prompt_completion, takes=("tools",)),
        Format("question_answer", (("question", "answer"),), _question_answer),
    )
}
