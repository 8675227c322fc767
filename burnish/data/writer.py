"""Messages as the text that serving would see, the same on every day.

Stands between `template` (which Jinja) and `rendering` (which parts of the text are learned). The text is the one
of transformers' `apply_chat_template`, as a server writes it. What a template writes by itself is made visible here: a
date (some ask for today's; here it is one fixed day, so that the same rows give the same tokens tomorrow) and words
before the first message (a default system message).
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import jinja2
from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

# The steps of apply_chat_template, which has no way to do the first of them once for many renderings. A test holds the
# texts of real templates equal to its own.
from transformers.utils.chat_template_utils import (
    _alias_reasoning_fields,
    _compile_jinja_template,
    _plain_template_data,
)

from burnish.data.records import Conversation, Message
from burnish.data.template import Template
from burnish.errors import DataError, ModelError

PINNED = datetime.date(2024, 7, 26)
"""The day that templates are told is today."""

_DATE_FORMAT = re.compile(r"""(["'])((?:(?!\1).)*%[a-zA-Z](?:(?!\1).)*)\1""")


@dataclass(frozen=True, eq=False)
class Writer:
    """A tokenizer and its template, ready to write conversations. Picklable.

    Example: ``Writer(tokenizer, choose_template(tokenizer)).write(conversation, 2, to_be_answered=False)``.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    options: Mapping[str, object] = field(default_factory=dict)
    """Variables that the template reads, such as ``{"enable_thinking": False}``."""

    def script(self, conversation: Conversation) -> Script:
        """The conversation, ready to be written up to any of its messages."""
        messages = [self._mapping(message) for message in conversation.messages]
        tools = [dict(tool) for tool in conversation.tools] or None
        return Script(self, conversation, _visible(messages), _plain_template_data(tools))

    def write(self, conversation: Conversation, count: int, *, to_be_answered: bool) -> str:
        """The first ``count`` messages as text, see `Script.write`."""
        return self.script(conversation).write(count, to_be_answered=to_be_answered)

    def rendered(
        self, messages: list[dict[str, object]], tools: list[dict[str, object]] | None, to_be_answered: bool
    ) -> str:
        """What `apply_chat_template` writes."""
        template, names = _compiled(self._pinned[tools is not None])
        own = dict(messages=messages, tools=tools, add_generation_prompt=to_be_answered, **self._variables)
        # Template.render would gather the names that every rendering sees anew for each of many short texts.
        return "".join(template.root_render_func(template.new_context({**names, **own}, shared=True)))

    def _mapping(self, message: Message) -> dict[str, object]:
        mapping = message.as_mapping()
        if message.content is not None and self._in_parts:
            mapping["content"] = _parts(message.content)
        return mapping

    @cached_property
    def _variables(self) -> dict[str, object]:
        """What templates see beside the conversation."""
        return _plain_template_data({"documents": None, **self.tokenizer.special_tokens_map, **self.options})

    @cached_property
    def _in_parts(self) -> bool:
        """Whether the template wants content as a list of parts: it fails on text, or drops it without a word."""
        return not self._writes(_PROBE) and self._writes(_parts(_PROBE))

    def _writes(self, content: object) -> bool:
        try:
            return _PROBE in self.rendered(_visible([{"role": "user", "content": content}]), None, False)
        except (TemplateError, TypeError, ValueError, KeyError):
            return False

    @cached_property
    def _pinned(self) -> tuple[str, str]:
        """The sources without and with tools, on the pinned day."""
        return pinned(self.template.source), pinned(self.template.for_tools(tools=True))

    @property
    def writes_date(self) -> bool:
        """Whether the template asks for today's date."""
        return self._pinned != (self.template.source, self.template.for_tools(tools=True))

    @property
    def preamble(self) -> str:
        """What the template says before the first message, a default system message say; "" if it says nothing.

        Headers of a word or two are not meant: only what has at least four words beside control tokens.
        """
        probe = Conversation((Message("user", _PROBE),))
        try:
            before = self.write(probe, 1, to_be_answered=False).partition(_PROBE)[0]
        except DataError:  # a template may refuse so short a conversation; then there is no telling
            return ""
        words = before
        for token in self.tokenizer.added_tokens_encoder:
            words = words.replace(token, " ")
        return before if len(re.findall(r"\w{2,}", words)) >= _WORDS else ""


@lru_cache(maxsize=64)
def _compiled(source: str) -> tuple[jinja2.Template, dict[str, object]]:
    """A template, and what it always sees."""
    template = _compile_jinja_template(source)
    return template, dict(template.globals)


@dataclass(frozen=True, eq=False, slots=True)
class Script:
    """A conversation as its template sees it: the messages are put into that form once, and written many times."""

    writer: Writer
    conversation: Conversation
    messages: list[dict[str, object]]
    tools: list[dict[str, object]] | None

    def write(self, count: int, *, to_be_answered: bool) -> str:
        """The first ``count`` messages as text, with the generation prompt if they are to be answered.

        Raises:
            DataError: the template refuses the messages.
            ModelError: the template is not valid Jinja.
        """
        try:
            return self.writer.rendered(self.messages[:count], self.tools, to_be_answered)
        except TemplateSyntaxError as error:
            raise ModelError(
                given=f"the chat template is not valid Jinja: {error} (line {error.lineno})",
                rule="a chat template is a Jinja template",
                remedy="correct the template, or name another one",
            ) from error
        except (TemplateError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise DataError(
                given=f"the chat template cannot write the conversation up to messages[{count - 1}]: {error}",
                rule="the template decides which roles, orders and fields there are",
                remedy="correct the row, or name another template",
            ) from error


def _visible(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """The messages as transformers shows them to templates: plain values, and reasoning under each of its names."""
    given = [{key: value for key, value in message.items() if value is not None} for message in messages]
    return _alias_reasoning_fields(_plain_template_data(given))


_PROBE = "Burnish?"
_WORDS = 4


def _parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def pinned(source: str) -> str:
    """The template with today's date replaced by the pinned one; unchanged if it asks for none.

    transformers gives templates a function ``strftime_now`` and no way to set its clock. A macro of that name, put
    before the template on the same line (so that errors name the right line), answers instead.
    """
    if "strftime_now" not in source:
        return source
    formats = dict.fromkeys(match[2] for match in _DATE_FORMAT.finditer(source))
    days = json.dumps({text: PINNED.strftime(text) for text in formats}, ensure_ascii=False)
    unknown = 'raise_exception("the date format " ~ format ~ " is not a constant of the template")'
    answer = "{{- " + days + "[format] if format in " + days + " else " + unknown + " -}}"
    return "{%- macro strftime_now(format) -%}" + answer + "{%- endmacro -%}" + source
