"""Lists of messages, in the form that OpenAI gave them, and in ShareGPT's (`from` and `value`)."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from burnish.data.formats.fields import kind, parsed
from burnish.data.records import ROLES, Message
from burnish.data.row import Row
from burnish.errors import DataError

Tools = tuple[Mapping[str, object], ...]

_OTHER_ROLES = (
    dict.fromkeys(("human", "prompter"), "user")
    | dict.fromkeys(("gpt", "chatgpt", "bot", "chatbot", "ai", "model", "bing", "bard", "claude"), "assistant")
    | dict.fromkeys(("function", "ipython", "observation", "function_response", "tool_response"), "tool")
    | dict.fromkeys(("function_call", "tool_call"), "assistant")
)
"""What other data sets call a role."""
_CALLS = ("function_call", "tool_call")
"""ShareGPT's names of an assistant's turn whose value is a call, or a list of them, as JSON."""
_LEAST, _MOST = 1e-6, 1000.0
"""The weights of a message that is learned: beyond them, one row would be nothing, or all of a step."""
_OURS = ("role", "content", "from", "value", "weight", "train")
"""Keys of a message that are not handed to the template as they are."""


def messages(value: object, column: str) -> tuple[Message, ...]:
    """The messages of a column: a list of objects, or the JSON text of one, which is how tables of text write it."""
    found = parsed(value, column) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if not isinstance(found, list):
        raise DataError(
            given=f"{column} is {kind(found)}",
            rule=f"{column} is a list of messages: [{{role: ..., content: ...}}, ...]",
            remedy="write the messages as a list of objects",
        )
    if not found:
        raise DataError(
            given=f"{column} is empty", rule="a conversation has at least one message", remedy="delete the row"
        )
    return tuple(_message(entry, f"{column}[{index}]") for index, entry in enumerate(found))


def tools(row: Row) -> Tools:
    """The column ``tools``: a list of JSON schemas, or the JSON text of one."""
    value = row.get("tools")
    if value is None or value == "":
        return ()
    found = parsed(value, "tools") if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise DataError(given=f"tools is {kind(found)}", rule="tools is a list of JSON schemas", remedy="correct it")
    return tuple(found)


def system(row: Row, spoken: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages, after the row's system message (column ``system`` or ``system_prompt``) if it has one."""
    for column in ("system", "system_prompt"):
        said = row.get(column)
        if said is None or said == "":
            continue
        if not isinstance(said, str):
            raise DataError(given=f"{column} is {kind(said)}", rule=f"{column} is text", remedy="correct it")
        if spoken and spoken[0].role in ("system", "developer"):
            raise DataError(
                given=f"the row has a column {column}, and its messages begin with a {spoken[0].role} message too",
                rule="a conversation has one system message at its beginning",
                remedy="remove one of the two",
            )
        return (Message("system", said), *spoken)
    return spoken


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise DataError(
            given=f"{where} is {kind(value)}",
            rule="a message is an object with role and content",
            remedy='write it as {"role": ..., "content": ...}',
        )
    known = {key: entry for key, entry in value.items() if entry is not None}
    name, content = _who(known, where), known.get("content", known.get("value"))
    role = name if name in ROLES else _OTHER_ROLES[name]
    extra = {key: entry for key, entry in known.items() if key not in _OURS}
    if name in _CALLS:
        extra["tool_calls"], content = _written_calls(content, where), None
    if "tool_calls" in extra:
        extra["tool_calls"] = _tool_calls(extra["tool_calls"], f"{where}.tool_calls")
    said = _content(content, role, where, may_be_absent=bool(extra.get("tool_calls")))
    wanted, weight = _is_wanted(known, where), _weight(known, where)
    if role != "assistant" or not (wanted and weight):
        return Message(role, said, extra)
    return Message(role, said, extra, trained=True, weight=weight)


def _who(message: Mapping[str, object], where: str) -> str:
    """The role as it is called in the row; a known name."""
    name = message.get("role", message.get("from"))
    if isinstance(name, str) and (name in ROLES or name in _OTHER_ROLES):
        return name
    rule = f"every message has a role: {', '.join(ROLES)} (or, with from and value, human, gpt, system, ...)"
    if name is None:
        raise DataError(
            given=f"{where} has no role (its keys: {', '.join(message)})", rule=rule, remedy="give the message a role"
        )
    near = get_close_matches(str(name).lower(), [*ROLES, *_OTHER_ROLES], n=1)
    remedy = f"did you mean {near[0]}?" if near else "use one of these roles"
    raise DataError(given=f"{where} has the role {name!r}", rule=rule, remedy=remedy)


def _content(value: object, role: str, where: str, *, may_be_absent: bool) -> str | None:
    """The text; parts of text are one text, joined as templates that know parts write them: without a space."""
    if isinstance(value, str):
        return value
    if value is None and role == "assistant" and may_be_absent:
        return None
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        texts = [text for part in value if part.get("type") == "text" and isinstance(text := part.get("text"), str)]
        if len(texts) == len(value):
            return "".join(texts)
        other = next((part.get("type") for part in value if part.get("type") != "text"), "text, without text")
        raise DataError(
            given=f"{where} ({role}) has a list as content, with a part of type {other!r}",
            rule="the parts of a content are of type text",
            remedy="leave the message out, or write what the part shows as text",
        )
    raise DataError(
        given=f"{where} ({role}) has {'no content' if value is None else f'{kind(value)} as content'}",
        rule="content is text, or a list of text parts; only an assistant that calls tools may have none",
        remedy="give the message its text as content",
    )


def _is_wanted(message: Mapping[str, object], where: str) -> bool:
    """The key ``train`` says whether a message is learned; without it, it is."""
    flag = message.get("train", 1)
    if flag not in (0, 1):
        raise DataError(
            given=f"{where} has the train {flag!r}",
            rule="a message's train is true (learned) or false (context only)",
            remedy="write true or false, or leave train out; weight takes other numbers",
        )
    return flag == 1


def _weight(message: Mapping[str, object], where: str) -> float:
    """The key ``weight`` (OpenAI's, which is 0 or 1 there): how much a message's tokens count; without it, 1."""
    weight = message.get("weight", 1.0)
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        if weight == 0 or _LEAST <= weight <= _MOST:
            return float(weight)
        given = f"{weight:g}" if isinstance(weight, float) else str(weight)[:40]
    else:
        given = kind(weight)
    raise DataError(
        given=f"{where} has as weight {given}",
        rule=f"a message's weight is 0 (context only), or a number from {_LEAST:g} to {_MOST:g}, which says how much "
        "its tokens count in the loss",
        remedy="correct the weight, or leave it out: then it is 1",
    )


def _written_calls(value: object, where: str) -> list[object]:
    """ShareGPT's calls in the form of OpenAI's."""
    found = parsed(value, f"{where}.value") if isinstance(value, str) else value
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise DataError(
            given=f"{where} is a call without a name",
            rule='a call is {"name": ..., "arguments": {...}}, as JSON',
            remedy="correct the value",
        )
    return [{"type": "function", "function": call} for call in calls]


def _tool_calls(value: object, where: str) -> list[dict[str, object]]:
    """Calls with their arguments as objects, which is what serving hands to templates; OpenAI writes JSON text."""
    if not isinstance(value, list) or not all(isinstance(call, dict) for call in value):
        raise DataError(given=f"{where} is {kind(value)}", rule="tool_calls is a list of objects", remedy="correct it")
    return [_tool_call(call, f"{where}[{index}]") for index, call in enumerate(value)]


def _tool_call(call: dict[str, object], where: str) -> dict[str, object]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    arguments = parsed(function["arguments"], f"{where}.function.arguments")
    return {**call, "function": {**function, "arguments": arguments}}
