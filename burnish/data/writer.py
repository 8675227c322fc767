"""Writer: renders messages with a chat template to the text of serving, with a fixed date.

Between `template` (selects the Jinja source) and `rendering` (learned parts of the text). The text equals that of
transformers' `apply_chat_template`, which servers use. A template may add text of its own: a date (here a fixed day, so
that the same rows always give the same tokens) and text before the first message (a default system message). Both are
reported.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial

import jinja2
from jinja2 import TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

# The steps of apply_chat_template, which cannot do the first of them once for many renderings. A test compares the
# texts of real templates with those of apply_chat_template.
from transformers.utils.chat_template_utils import (
    _alias_reasoning_fields,
    _compile_jinja_template,
    _plain_template_data,
)

from burnish.data.long_script import LongScript
from burnish.data.records import Conversation, Message, TextPart
from burnish.data.template import Template
from burnish.data.template_forms import ABSENT, PROBE, UNRENDERED, TemplateForms, template_forms, text_parts
from burnish.errors import DataError, ModelError
from burnish.vision.processing import ImageProcessing

PINNED = datetime.date(2024, 7, 26)
"""Fixed date that templates get as today's date."""

_DATE_FORMAT = re.compile(r"""(["'])((?:(?!\1).)*%[a-zA-Z](?:(?!\1).)*)\1""")


@dataclass(frozen=True, eq=False)
class Writer:
    """Tokenizer and chat template that render conversations. Picklable.

    Example: ``Writer(tokenizer, choose_template(tokenizer)).write(conversation, 2, add_generation_prompt=False)``.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    options: Mapping[str, object] = field(default_factory=dict)
    """Variables of the template, such as ``{"enable_thinking": False}``."""
    images: ImageProcessing | None = None
    """Image processing of the model; None: it takes text alone."""

    def script(self, conversation: Conversation) -> Script:
        """Prepares a conversation for rendering up to any of its messages."""
        messages = self.visible(conversation.messages)
        tools = _plain_template_data([dict(tool) for tool in conversation.tools] or None)
        return Script(conversation, LongScript(messages, partial(self._written, tools)), self)

    def visible(self, messages: Sequence[Message]) -> list[dict[str, object]]:
        """Messages as the template gets them."""
        given = _visible([self._to_template(message) for message in messages])
        if (said := self.forms.no_content) != ABSENT:
            return [message if "content" in message else {**message, "content": said} for message in given]
        return given

    def _written(
        self, tools: list[dict[str, object]] | None, messages: list[dict[str, object]], add_generation_prompt: bool
    ) -> str:
        """Renders messages. Raises DataError if the template refuses them, ModelError if it is not valid Jinja."""
        try:
            return self.rendered(messages, tools, add_generation_prompt)
        except TemplateSyntaxError as error:
            raise ModelError(
                given=f"the chat template is not valid Jinja: {error} (line {error.lineno})",
                rule="a chat template is a Jinja template",
                remedy="correct the template, or name another one",
            ) from error
        except UNRENDERED as error:
            raise DataError(
                given=f"the chat template cannot write the conversation up to messages[{len(messages) - 1}]: {error}",
                rule="the template decides which roles, orders and fields are valid",
                remedy="correct the row, or name another template",
            ) from error

    def write(self, conversation: Conversation, count: int, *, add_generation_prompt: bool) -> str:
        """Renders the first ``count`` messages, see `script` and `Script.write`."""
        return self.script(conversation).write(count, add_generation_prompt=add_generation_prompt)

    def rendered(
        self, messages: list[dict[str, object]], tools: list[dict[str, object]] | None, add_generation_prompt: bool
    ) -> str:
        """Renders template messages to the text of `apply_chat_template`."""
        template, names = _compiled(self._pinned[tools is not None])
        variables = dict(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt, **self._variables)
        # Template.render would rebuild the global names of the template for each of many short texts.
        return "".join(template.root_render_func(template.new_context({**names, **variables}, shared=True)))

    def _to_template(self, message: Message) -> dict[str, object]:
        mapping, text, forms = message.as_mapping(), message.text, self.forms
        mapping["role"] = forms.role(message.role)
        if text is not None and forms.content_as_parts and not message.images:
            mapping["content"] = text_parts(text)
        if message.images:
            mapping["content"] = [
                {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
                for part in message.parts
            ]
        if message.extra.get("tool_calls"):
            mapping["tool_calls"] = forms.calls(message.extra["tool_calls"])
        return mapping

    @cached_property
    def _variables(self) -> dict[str, object]:
        """Variables of templates other than messages and tools."""
        return _plain_template_data({"documents": None, **self.tokenizer.special_tokens_map, **self.options})

    @cached_property
    def forms(self) -> TemplateForms:
        """Forms of messages that the template wants."""
        return template_forms(self._tried)

    def _tried(self, messages: list[dict[str, object]], *, add_generation_prompt: bool = False) -> str:
        return self.rendered(_visible_with_null(messages), None, add_generation_prompt)

    @cached_property
    def _pinned(self) -> tuple[str, str]:
        """Sources without and with tools, with the fixed date."""
        return pinned(self.template.source), pinned(self.template.for_tools(tools=True))

    @property
    def writes_date(self) -> bool:
        """True if the template reads today's date."""
        return self._pinned != (self.template.source, self.template.for_tools(tools=True))

    @property
    def preamble(self) -> str:
        """Text of the template before the first message, such as a default system message; "" if there is none.

        Short headers do not count: the text has at least four words other than control tokens.
        """
        probe = Conversation((Message("user", PROBE),))
        try:
            before = self.write(probe, 1, add_generation_prompt=False).partition(PROBE)[0]
        except DataError:  # a template may refuse so short a conversation; then the text is unknown
            return ""
        words = before
        for token in self.tokenizer.added_tokens_encoder:
            words = words.replace(token, " ")
        return before if len(re.findall(r"\w{2,}", words)) >= _MIN_WORDS else ""


@lru_cache(maxsize=64)
def _compiled(source: str) -> tuple[jinja2.Template, dict[str, object]]:
    """Compiles a template, and copies its global names."""
    template = _compile_jinja_template(source)
    return template, dict(template.globals)


@dataclass(frozen=True, eq=False, slots=True)
class Script:
    """Conversation in the form of the template: converted once, rendered many times."""

    conversation: Conversation
    texts: LongScript
    writer: Writer
    replacement: tuple[int, Message, dict[str, object]] | None = None
    """Index of a message after which nothing is rendered, and the message that replaces it; None: none."""

    def message(self, index: int) -> Message:
        """A message of the conversation, or its replacement."""
        if self.replacement is not None and self.replacement[0] == index:
            return self.replacement[1]
        return self.conversation.messages[index]

    def with_message(self, index: int, message: Message) -> Script:
        """The script with another message, to be rendered up to it."""
        (visible,) = self.writer.visible([message])
        return replace(self, replacement=(index, message, visible))

    def write(self, count: int, *, add_generation_prompt: bool) -> str:
        """Renders the first ``count`` messages, with the generation prompt if ``add_generation_prompt``.

        Raises:
            DataError: the template refuses the messages.
            ModelError: the template is not valid Jinja.
        """
        last = None
        if self.replacement is not None:
            assert count <= self.replacement[0] + 1, "a replaced message is the last to be rendered"
            last = self.replacement[2] if count == self.replacement[0] + 1 else None
        return self.texts.write(count, add_generation_prompt, last)


def _visible(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """Messages as transformers passes them to templates: plain values, and reasoning under each of its names."""
    messages_without_none = [
        {key: value for key, value in message.items() if value is not None} for message in messages
    ]
    return _alias_reasoning_fields(_plain_template_data(messages_without_none))


def _visible_with_null(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """Like `_visible`, but content that is None stays."""
    null = [index for index, message in enumerate(messages) if message.get("content", "") is None]
    visible = _visible(messages)
    for index in null:
        visible[index]["content"] = None
    return visible


_MIN_WORDS = 4


def pinned(source: str) -> str:
    """Replaces today's date in a template by the fixed one; unchanged if the template reads no date.

    transformers gives templates a function ``strftime_now`` without a way to set its clock. A macro of that name
    before the template, on the same line (so that errors name the right line), overrides it.
    """
    if "strftime_now" not in source:
        return source
    formats = dict.fromkeys(match[2] for match in _DATE_FORMAT.finditer(source))
    days = json.dumps({text: PINNED.strftime(text) for text in formats}, ensure_ascii=False)
    unknown = 'raise_exception("the date format " ~ format ~ " is not a constant of the template")'
    macro_body = "{{- " + days + "[format] if format in " + days + " else " + unknown + " -}}"
    return "{%- macro strftime_now(format) -%}" + macro_body + "{%- endmacro -%}" + source
