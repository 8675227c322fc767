"""Messages whose content is a list of parts with `type` and `value`: text, reasoning and tool calls.

LLaMA-Factory writes rows so (`v1`), with `loss_weight` for what is learned. They become messages with a text,
`reasoning_content`, `tool_calls` and `weight`, which `messages` reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from burnish.data.formats.fields import kind, parsed
from burnish.data.formats.roles import CALL_ROLES, is_assistant
from burnish.errors import DataError

_ORDER = ("reasoning", "text", "tool_call")
"""Types of parts, in the order in which a message has them."""
_MEDIA = ("image_url", "video_url", "audio_url")


def with_plain_content(message: dict[str, object], where: str) -> dict[str, object]:
    """Returns a message without `loss_weight` and without parts that have a `value`; another message is unchanged.

    Raises:
        DataError: parts are of an unknown type or in another order, or are not the assistant's.
    """
    content = message.get("content")
    if "loss_weight" in message:
        message = _with_weight(message, where)
    if not isinstance(content, list) or not any(isinstance(part, Mapping) and "value" in part for part in content):
        return message
    parts = [_checked(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
    rest: dict[str, object] = {**message, "content": [_plain(part) for part in parts if part["type"] not in _EXTRAS]}
    extras = [part for part in parts if part["type"] in _EXTRAS]
    role = message.get("role", message.get("from"))
    if extras and (role in CALL_ROLES or not is_assistant(role)):
        raise DataError(
            given=f"{where} has the role {role} and a part of the type {extras[0]['type']}",
            rule="reasoning and tool calls are the assistant's",
            remedy="correct the role, or the type of the part",
        )
    _require_order([str(part["type"]) for part in parts], where)
    reasoning = [str(part["value"]) for part in parts if part["type"] == "reasoning"]
    calls = [_call(part["value"], where) for part in parts if part["type"] == "tool_call"]
    for key, value in (("reasoning_content", "".join(reasoning)), ("tool_calls", calls)):
        if value and message.get(key):
            raise DataError(
                given=f"{where} has {key} and parts of that kind in its content",
                rule="a message says its reasoning and its calls once",
                remedy=f"remove {key}, or these parts",
            )
        rest |= {key: value} if value else {}
    if not rest["content"]:
        del rest["content"]
        return rest if calls else {**rest, "content": ""}
    return rest


_EXTRAS = ("reasoning", "tool_call")


def _with_weight(message: dict[str, object], where: str) -> dict[str, object]:
    """Reads `loss_weight` as `weight`."""
    rest = {key: value for key, value in message.items() if key != "loss_weight"}
    weight = message["loss_weight"]
    if "weight" in message:
        raise DataError(
            given=f"{where} has weight and loss_weight",
            rule="both are the weight of the message's tokens in the loss",
            remedy="remove one of the two",
        )
    if is_assistant(message.get("role", message.get("from"))):
        return {**rest, "weight": weight}
    if weight != 0:
        raise DataError(
            given=f"{where} has the role {message.get('role', message.get('from'))} and loss_weight {weight!r}",
            rule="messages are learned only if they are the assistant's",
            remedy="set its loss_weight to 0, or name train_on=everything",
        )
    return rest


def _checked(part: object, where: str) -> Mapping[str, object]:
    if isinstance(part, Mapping) and part.get("type") in (*_ORDER, *_MEDIA) and isinstance(part.get("value"), str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "tool_call" and isinstance(part.get("value"), Mapping):
        return part
    given = f"has the type {part.get('type')!r}" if isinstance(part, Mapping) else f"is {kind(part)}"
    if isinstance(part, Mapping) and part.get("type") in (*_ORDER, *_MEDIA):
        given += f", and its value is {kind(part.get('value'))}"
    raise DataError(
        given=f"{where} {given}",
        rule='parts are {"type": "text", "reasoning" or "tool_call", "value": ...}',
        remedy="correct the part, or leave the message out",
    )


def _plain(part: Mapping[str, object]) -> dict[str, object]:
    """Part in the form of OpenAI."""
    name = "text" if part["type"] == "text" else str(part["type"])
    return {"type": name, name: part["value"]}


def _require_order(types: Sequence[str], where: str) -> None:
    order = [_ORDER.index(name) if name in _ORDER else _ORDER.index("text") for name in types]
    if order != sorted(order):
        raise DataError(
            given=f"{where} has parts in the order {', '.join(types)}",
            rule="a message has its reasoning first, then its text, then its tool calls: templates write them so",
            remedy="write a message for each stretch of parts in this order",
        )


def _call(value: object, where: str) -> dict[str, object]:
    call = parsed(value, f"{where}: the part tool_call") if isinstance(value, str) else value
    if isinstance(call, Mapping) and isinstance(call.get("name"), str):
        return {"type": "function", "function": dict(call)}
    raise DataError(
        given=f"{where} has a part tool_call that is {kind(call)}" + (" without a name" if call else ""),
        rule='a call is {"name": ..., "arguments": {...}}, as JSON',
        remedy="correct the part",
    )
