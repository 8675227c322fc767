"""Forms in which a chat template wants its messages, determined by rendering, once per template.

Used by `writer`. Templates differ in four ways that rows do not know of: content as text or as a list of parts, the
arguments of calls as objects or as JSON text, content that is absent or null where a message only calls, and the role
developer, which many do not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jinja2 import TemplateError

PROBE = "Burnish?"
"""Text that is sought in renderings."""
UNRENDERED = (TemplateError, TypeError, ValueError, KeyError, OverflowError)
"""Errors of a template that refuses its messages."""
ABSENT = "absent"

_NAME, _KEY, _VALUE = "burnish01", "burnish02", "burnish03"
_ARGUMENTS = {_KEY: _VALUE}
_AS_JSON, _AS_PYTHON = json.dumps(_ARGUMENTS), str(_ARGUMENTS)

Messages = list[dict[str, object]]


class Render(Protocol):
    """Renders messages; raises one of UNRENDERED if the template refuses them."""

    def __call__(self, messages: Messages, *, add_generation_prompt: bool = False) -> str: ...


@dataclass(frozen=True, slots=True)
class TemplateForms:
    """Forms of messages that a template wants."""

    content_as_parts: bool
    """True if it needs content as a list of parts: with text it fails, or silently drops the content."""
    arguments_as_text: bool
    """True if it writes the arguments of calls as they are and needs JSON text; false: it takes objects."""
    no_content: str | None
    """Content of a message that only calls: `ABSENT` (no key), None, or ""."""
    developer: str
    """Role that developer messages get: developer, or system if the template does not write that role's content."""

    def role(self, role: str) -> str:
        """Role of a message in the template."""
        return self.developer if role == "developer" else role

    def calls(self, calls: object) -> object:
        """Tool calls with their arguments in the form of the template."""
        if not self.arguments_as_text or not isinstance(calls, Sequence):
            return calls
        return [_with_text(call) for call in calls]


def template_forms(render: Render) -> TemplateForms:
    """Determines the forms of a template."""
    as_text, as_parts = (_renders(render, content) for content in (PROBE, text_parts(PROBE)))
    parts = as_parts and not as_text
    content: object = text_parts(PROBE) if parts else PROBE
    arguments_as_text = _wants_text(render, content)
    arguments = _AS_JSON if arguments_as_text else _ARGUMENTS
    return TemplateForms(parts, arguments_as_text, _no_content(render, content, arguments), _developer(render, content))


def text_parts(content: str) -> list[dict[str, str]]:
    """A text as a list of one part."""
    return [{"type": "text", "text": content}]


def _rendered(render: Render, messages: Messages, *, add_generation_prompt: bool = False) -> str | None:
    """Text of the messages; None: the template refuses them."""
    try:
        return render(messages, add_generation_prompt=add_generation_prompt)
    except UNRENDERED:
        return None


def _renders(render: Render, content: object) -> bool:
    return PROBE in (_rendered(render, [{"role": "user", "content": content}]) or "")


def _wants_text(render: Render, content: object) -> bool:
    """True if JSON text is written as it is, and an object is refused, dropped, or written as Python writes it."""
    as_text = _rendered(render, _called(content, _AS_JSON, ""))
    if as_text is None or _AS_JSON not in as_text:
        return False
    as_object = _rendered(render, _called(content, _ARGUMENTS, ""))
    return as_object is None or _AS_PYTHON in as_object or _VALUE not in as_object


def _no_content(render: Render, content: object, arguments: object) -> str | None:
    forms: tuple[str | None, ...] = (ABSENT, None, "")
    working = (form for form in forms if _rendered(render, _called(content, arguments, form)) is not None)
    return next(working, ABSENT)


def _called(content: object, arguments: object, said: str | None) -> Messages:
    """A question, and an answer that only calls a tool."""
    call = {"id": _NAME, "type": "function", "function": {"name": _NAME, "arguments": arguments}}
    answer: dict[str, object] = {"role": "assistant", "tool_calls": [call]}
    return [{"role": "user", "content": content}, answer if said == ABSENT else {**answer, "content": said}]


def _developer(render: Render, content: object) -> str:
    """The role in which the template writes the content of a developer message at the beginning."""
    question = "Question?"
    asked = text_parts(question) if isinstance(content, list) else question
    for role in ("developer", "system"):
        messages: Messages = [{"role": role, "content": content}, {"role": "user", "content": asked}]
        if PROBE in (_rendered(render, messages, add_generation_prompt=True) or ""):
            return role
    return "developer"


def _with_text(call: object) -> object:
    if not isinstance(call, Mapping):
        return call
    inner = call.get("function")
    if isinstance(inner, Mapping):
        return {**call, "function": _with_text(inner)}
    arguments = call.get("arguments")
    return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)} if isinstance(arguments, Mapping) else call
