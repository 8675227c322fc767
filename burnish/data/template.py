"""Chat templates: selects the Jinja template of the tokenizer, a built-in one by name, or a file.

Used by recipes; `writer` renders with the template. The built-in templates are written for Burnish and share only the
layout with the well-known ones. They raise an error for content that they do not support (tools, say).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from burnish.data.settings import MARKERS
from burnish.errors import ModelError
from burnish.similar import similar
from burnish.vision.registry import FAMILIES

NAMES = tuple(MARKERS)
"""Names of the built-in templates, in the folder `templates`."""


@dataclass(frozen=True, slots=True)
class Template:
    """Jinja source of a chat template. Example: ``Template("{% for message in messages %}...")``."""

    source: str
    """Template of conversations without tools, or of all conversations if `with_tools` is None."""
    with_tools: str | None = None
    """Template of conversations with tools; some tokenizers have a separate one."""

    def for_tools(self, tools: object) -> str:
        """Returns the source for a conversation with these tools."""
        return self.with_tools if tools and self.with_tools is not None else self.source

    @property
    def saved(self) -> str | dict[str, str]:
        """Value of `chat_template` of a tokenizer."""
        return self.source if self.with_tools is None else {"default": self.source, "tool_use": self.with_tools}


def choose_template(tokenizer: PreTrainedTokenizerBase, name_or_path: str | None = None) -> Template:
    """Selects a named template (built-in, a file, one of the tokenizer's), else the tokenizer's own, else ``plain``.

    If a tokenizer has several templates, ``tool_use`` renders rows with tools, as in serving.
    """
    own = tokenizer.chat_template
    named = own if isinstance(own, Mapping) else {}
    if name_or_path is None and isinstance(own, str):
        return Template(own)
    if name_or_path is None and named:
        return Template(_default_of(named), named.get("tool_use"))
    if name_or_path in named:
        return Template(str(named[name_or_path]))
    if name_or_path is None or name_or_path in NAMES:
        return Template(_ours(name_or_path or "plain", tokenizer))
    return Template(_from_file(name_or_path))


def _default_of(named: Mapping[str, str]) -> str:
    if "default" not in named:
        raise ModelError(
            given=f"the tokenizer has several templates ({', '.join(sorted(named))}) and no default",
            rule="one template writes all conversations",
            remedy=f"name one: chat_template={min(named)}",
        )
    return named["default"]


def _ours(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    if not MARKERS[name] and tokenizer.eos_token is None:
        raise ModelError(
            given="the tokenizer has no end token (eos_token)",
            rule=f"the template {name!r} ends every answer with it, otherwise the model would never stop",
            remedy="set eos_token in tokenizer_config.json, or name another template",
        )
    absent = [token for token in MARKERS[name] if not is_one_token(token, tokenizer)]
    if absent:
        raise ModelError(
            given=f"the tokenizer has no token {' and no token '.join(absent)}",
            rule=f"the template {name!r} marks turns with tokens of their own",
            remedy="set add_tokens=template, which gives them to tokenizer and model; "
            "or use chat_template=plain, which needs none",
        )
    return _with_images((files("burnish.data") / "templates" / f"{name}.jinja").read_text(encoding="utf-8"), tokenizer)


def _with_images(source: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A built-in template that also writes messages in parts, if the tokenizer has a token for images."""
    written = (family.written for family in FAMILIES if is_one_token(family.mark(tokenizer), tokenizer))
    mark = next(written, None)
    if mark is None:
        return source
    macro = (
        "{%- macro text_of(content) -%}{%- if content is string -%}{{- content -}}{%- else -%}"
        "{%- for part in content -%}{%- if part.type == 'image' -%}{{- '" + mark + "' -}}{%- else -%}"
        "{{- part.text -}}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}\n"
    )
    return macro + source.replace("message.content", "text_of(message.content)")


def is_one_token(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """True if the vocabulary has the text as one token, and the tokenizer encodes it so."""
    vocabulary = tokenizer.get_vocab()
    return text in vocabulary and tokenizer.encode(text, add_special_tokens=False) == [vocabulary[text]]


def _from_file(path: str) -> str:
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        names = os.listdir(file.parent) if os.path.isdir(file.parent) else []
        near = similar(path, NAMES) or similar(file.name, names)
        raise ModelError(
            given=f"template {path!r} is neither known nor a file",
            rule=f"a template is one of {', '.join(NAMES)}, or a path to a .jinja file",
            remedy=f"did you mean {' or '.join(near[:3])}?" if near else "correct the name or the path",
        )
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            given=f"template {path} cannot be read: {error}", rule="a template is UTF-8 text", remedy="correct the file"
        ) from error
