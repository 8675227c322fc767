"""Lists of messages in the formats of OpenAI and of ShareGPT (`from` and `value`)."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.data.formats.fields import kind, parsed
from burnish.data.formats.parts import with_plain_content
from burnish.data.formats.roles import CALL_ROLES, ROLE_ALIASES
from burnish.data.records import ROLES, ImagePart, Message, Part, TextPart
from burnish.data.row import Row
from burnish.errors import DataError
from burnish.similar import similar
from burnish.vision.sources import source_of

Tools = tuple[Mapping[str, object], ...]

_MIN_WEIGHT, _MAX_WEIGHT = 1e-6, 1000.0
"""Bounds of the weight of a learned message: outside, one row would be negligible in a step, or dominate it."""
_LEARNED_KEYS = ("train", "loss", "training", "trainable", "train_on_turn")
"""Keys for whether a message is learned, ours first; the others are those of ms-swift, axolotl and their relatives."""
_MASKED_KEYS = ("masked",)
"""Keys for whether a message is context only."""
_UNCLEAR_KEYS = ("mask", "loss_mask", "loss_scale", "train_detail", "training_detail")
"""Keys by which other tools change what is learned, in ways that we do not know or that differ among them."""
_OWN_KEYS = ("role", "content", "from", "value", "weight", "function_call", *_LEARNED_KEYS, *_MASKED_KEYS)
"""Keys of a message that are not passed to the template unchanged."""


def messages(value: object, column: str) -> tuple[Message, ...]:
    """Reads the messages of a column: a list of objects, its JSON text, as in CSV, or a single message."""
    entries = parsed(value, column) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if isinstance(entries, dict) and ("role" in entries or "from" in entries):
        entries = [entries]
    if not isinstance(entries, list):
        raise DataError(
            given=f"{column} is {kind(entries)}",
            rule=f"{column} is a list of messages: [{{role: ..., content: ...}}, ...]",
            remedy="write the messages as a list of objects",
        )
    if not entries:
        raise DataError(
            given=f"{column} is empty", rule="a conversation has at least one message", remedy="delete the row"
        )
    return tuple(_message(entry, f"{column}[{index}]") for index, entry in enumerate(entries))


def tools(row: Row) -> Tools:
    """Reads the column ``tools`` (or OpenAI's older ``functions``): a list of JSON schemas, or its JSON text."""
    functions = row.get("functions")
    if functions and row.get("tools"):
        raise DataError(
            given="the row has a column tools and a column functions",
            rule="tools are given once; functions is their older form",
            remedy="remove one of the two",
        )
    if functions:
        return tuple({"type": "function", "function": schema} for schema in _schemas(functions, "functions"))
    return tuple(map(_nested, _schemas(row.get("tools"), "tools")))


def _schemas(value: object, column: str) -> Tools:
    if value is None or value == "":
        return ()
    schemas = parsed(value, column) if isinstance(value, str) else value
    if not isinstance(schemas, list) or not all(isinstance(tool, dict) for tool in schemas):
        raise DataError(
            given=f"{column} is {kind(schemas)}", rule=f"{column} is a list of JSON schemas", remedy="correct it"
        )
    return tuple(schemas)


def _nested(tool: Mapping[str, object]) -> Mapping[str, object]:
    """A tool as templates expect it; some sets (xLAM) write the function alone."""
    if "name" not in tool or "function" in tool or tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def system(row: Row, conversation: tuple[Message, ...]) -> tuple[Message, ...]:
    """Adds the row's system message (column ``system`` or ``system_prompt``) before the messages, if it has one."""
    for column in ("system", "system_prompt"):
        content = row.get(column)
        if content is None or content == "":
            continue
        if not isinstance(content, str):
            raise DataError(given=f"{column} is {kind(content)}", rule=f"{column} is text", remedy="correct it")
        if conversation and conversation[0].role in ("system", "developer"):
            if conversation[0].content == content:
                return conversation
            raise DataError(
                given=f"the row has a column {column}, and its messages begin with a {conversation[0].role} message",
                rule="a conversation has one system message at its beginning; both say the same, or one is absent",
                remedy="remove one of the two",
            )
        return (Message("system", content), *conversation)
    return conversation


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise DataError(
            given=f"{where} is {kind(value)}",
            rule="a message is an object with role and content",
            remedy='write it as {"role": ..., "content": ...}',
        )
    entries = with_plain_content({key: entry for key, entry in value.items() if entry is not None}, where)
    name, content = _role_name(entries, where), entries.get("content", entries.get("value"))
    role = name if name in ROLES else ROLE_ALIASES[name]
    extra = {key: entry for key, entry in entries.items() if key not in _OWN_KEYS}
    if name in CALL_ROLES:
        extra["tool_calls"], content = _sharegpt_calls(content, where), None
    if "function_call" in entries:
        extra["tool_calls"] = _old_call(entries, where)
    if not extra.get("tool_calls", True):
        del extra["tool_calls"]  # templates take its presence for a call
    if "tool_calls" in extra:
        extra["tool_calls"] = _tool_calls(extra["tool_calls"], f"{where}.tool_calls")
    read = _content(content, role, where, may_be_absent=bool(extra.get("tool_calls")))
    trained, weight = _is_trained(entries, where), _weight(entries, where)
    if role != "assistant" or not (trained and weight):
        return Message(role, read, extra)
    return Message(role, read, extra, trained=True, weight=weight)


def _role_name(message: Mapping[str, object], where: str) -> str:
    """Returns the role's name in the row; raises DataError if it is unknown."""
    name = message.get("role", message.get("from"))
    if isinstance(name, str) and (name in ROLES or name in ROLE_ALIASES):
        return name
    rule = f"every message has a role: {', '.join(ROLES)} (or, with from and value, human, gpt, system, ...)"
    if name is None:
        raise DataError(
            given=f"{where} has no role (its keys: {', '.join(message)})", rule=rule, remedy="give the message a role"
        )
    near = similar(str(name).lower(), [*ROLES, *ROLE_ALIASES])
    remedy = f"did you mean {near[0]}?" if near else "use one of these roles"
    raise DataError(given=f"{where} has the role {name!r}", rule=rule, remedy=remedy)


def _content(value: object, role: str, where: str, *, may_be_absent: bool) -> str | tuple[Part, ...] | None:
    """Returns the text of a content, or its parts if it has images; parts that are all text are joined without a
    space, as templates for parts do."""
    if isinstance(value, str):
        return value
    if value is None and role == "assistant" and may_be_absent:
        return None
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        parts = tuple(_part(part, f"{where} ({role})") for part in value)
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        return "".join(texts) if len(texts) == len(parts) else parts
    raise DataError(
        given=f"{where} ({role}) has {'no content' if value is None else f'{kind(value)} as content'}",
        rule="content is text, or a list of text parts; only an assistant that calls tools may have none",
        remedy="give the message its text as content",
    )


def _part(part: Mapping[str, object], where: str) -> Part:
    name, text = part.get("type"), part.get("text")
    if name == "text" and isinstance(text, str):
        return TextPart(text)
    if name in ("image", "image_url"):
        given = next((part[key] for key in ("image_url", "image", "bytes", "url", "path") if part.get(key)), None)
        source = "" if given is None else source_of(given)
        if source is not None:
            return ImagePart(source)
        raise DataError(
            given=f"{where} has an image that is {kind(given)}",
            rule="an image is a path, bytes, base64, a data URL, or an object with bytes or path",
            remedy="correct the part, or leave the row out",
        )
    raise DataError(
        given=f"{where} has a list as content, with a part of type "
        f"{'text, without text' if name == 'text' else name!r}",
        rule="the parts of a content are texts and images",
        remedy="leave the message out, or write what the part shows as text",
    )


def _is_trained(message: Mapping[str, object], where: str) -> bool:
    """Reads whether the message is learned, default true: the key ``train``, or that of another tool.

    Raises:
        DataError: a key has no such value, two contradict each other, or one is not known well enough.
    """
    if _SAYING_LEARNED.isdisjoint(message):
        return True
    unclear = next((key for key in _UNCLEAR_KEYS if key in message), None)
    if unclear is not None:
        raise DataError(
            given=f"{where} has the key {unclear}, by which another tool says what is learned",
            rule="a message is learned as a whole or not: train is true or false; weight is its weight in the loss",
            remedy=f"write train or weight instead of {unclear}, or remove it",
        )
    flags = {key: _flag(message[key], key, where) == (key in _LEARNED_KEYS) for key in _FLAGS if key in message}
    if len(set(flags.values())) > 1:
        raise DataError(
            given=f"{where} has {' and '.join(f'{key}: {message[key]}' for key in flags)}",
            rule="a message is learned or not",
            remedy="remove one of the two",
        )
    return all(flags.values())


_FLAGS = (*_LEARNED_KEYS, *_MASKED_KEYS)
_SAYING_LEARNED = frozenset((*_FLAGS, *_UNCLEAR_KEYS))


def _flag(flag: object, key: str, where: str) -> bool:
    if flag in (0, 1):
        return flag == 1
    raise DataError(
        given=f"{where} has the {key} {flag!r}",
        rule=f"a message's {key} is true or false: train says whether it is learned, or context only",
        remedy=f"write true or false, or leave {key} out; weight takes other numbers",
    )


def _weight(message: Mapping[str, object], where: str) -> float:
    """Reads the key ``weight``, default 1: the weight of the message's tokens in the loss. (OpenAI allows 0 and 1.)"""
    weight = message.get("weight", 1.0)
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        if weight == 0 or _MIN_WEIGHT <= weight <= _MAX_WEIGHT:
            return float(weight)
        given = f"{weight:g}" if isinstance(weight, float) else str(weight)[:40]
    else:
        given = kind(weight)
    raise DataError(
        given=f"{where} has as weight {given}",
        rule=f"a message's weight is 0 (context only), or a number from {_MIN_WEIGHT:g} to {_MAX_WEIGHT:g}, "
        "the weight of its tokens in the loss",
        remedy="correct the weight, or leave it out: then it is 1",
    )


def _old_call(message: Mapping[str, object], where: str) -> list[object]:
    """Converts OpenAI's older ``function_call`` of a message to tool calls."""
    call = message["function_call"]
    if message.get("tool_calls"):
        raise DataError(
            given=f"{where} has tool_calls and function_call",
            rule="a message gives its calls once; function_call is their older form",
            remedy="remove function_call",
        )
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise DataError(
            given=f"{where}.function_call is {kind(call)}" + (" without a name" if isinstance(call, dict) else ""),
            rule='a call is {"name": ..., "arguments": ...}',
            remedy="correct it, or write it as tool_calls",
        )
    return [{"type": "function", "function": call}]


def _sharegpt_calls(value: object, where: str) -> list[object]:
    """Converts ShareGPT's tool calls to OpenAI's format."""
    content = parsed(value, f"{where}.value") if isinstance(value, str) else value
    calls = content if isinstance(content, list) else [content]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise DataError(
            given=f"{where} is a call without a name",
            rule='a call is {"name": ..., "arguments": {...}}, as JSON',
            remedy="correct the value",
        )
    return [{"type": "function", "function": call} for call in calls]


def _tool_calls(value: object, where: str) -> list[dict[str, object]]:
    """Converts arguments of tool calls from JSON text (OpenAI) to objects, which servers pass to templates."""
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        raise DataError(given=f"{where} is {kind(value)}", rule="tool_calls is a list of objects", remedy="correct it")
    return [_tool_call(call, f"{where}[{index}]") for index, call in enumerate(value)]


def _tool_call(call: dict[str, object], where: str) -> dict[str, object]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    text = function["arguments"]
    arguments = parsed(text, f"{where}.function.arguments") if text.strip() else {}
    return {**call, "function": {**function, "arguments": arguments}}
