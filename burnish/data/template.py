"""Conversations as the text that serving would see, and which characters of it the model is to learn.

Stands between `formats` and `tokenize`. Text is written by the tokenizer's own Jinja template, never by hand, and what
is learned of it is derived by rendering: for each learned turn, the text with the generation prompt (what serving gives
the model) and the text with the turn. Where a template writes earlier turns differently once later ones follow (it
strips their thinking, say), a conversation becomes several renderings, so every turn is learned in the context that
serving would give. A rendering says nothing of tokens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerBase

from burnish.data.formats import Completion, Conversation
from burnish.errors import DataError, ModelError

NAMES = ("plain", "chatml")
"""Templates of ours, beside this module."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """One text to learn from. Example: ``Rendering("Q: 2+2\\nA: 4</s>", spans=((10, 15),))``."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """Character ranges [start, end) that the model is to write, in order, not overlapping."""


def choose_template(tokenizer: PreTrainedTokenizerBase, name_or_path: str | None = None) -> str:
    """Jinja source: a named one (ours, a file, one of the tokenizer's), else the tokenizer's own, else ``plain``."""
    own = tokenizer.chat_template
    named = own if isinstance(own, Mapping) else {}
    if name_or_path is None and isinstance(own, str):
        return own
    if name_or_path is None and named:
        return _default_of(named)
    if name_or_path in named:
        return str(named[name_or_path])
    if name_or_path is None or name_or_path in NAMES:
        return _ours(name_or_path or "plain", tokenizer)
    return _from_file(name_or_path)


def _default_of(named: Mapping[str, str]) -> str:
    if "default" not in named:
        raise ModelError(
            given=f"the tokenizer has several templates ({', '.join(sorted(named))}) and no default",
            rule="one template writes all conversations",
            remedy=f"name one: template={min(named)}",
        )
    return named["default"]


def _ours(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    if name == "plain" and tokenizer.eos_token is None:
        raise ModelError(
            given="the tokenizer has no end token (eos_token)",
            rule="the template 'plain' ends every answer with it, otherwise the model would never stop",
            remedy="set eos_token in tokenizer_config.json, or name another template",
        )
    absent = [token for token in ("<|im_start|>", "<|im_end|>") if not _is_one_token(token, tokenizer)]
    if name == "chatml" and absent:
        raise ModelError(
            given=f"the tokenizer has no token {' and no token '.join(absent)}",
            rule="the template 'chatml' marks turns with tokens of their own",
            remedy="use template=plain, which needs no added tokens",
        )
    return (files("burnish.data") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def _is_one_token(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    known = tokenizer.get_vocab()
    return text in known and tokenizer.encode(text, add_special_tokens=False) == [known[text]]


def _from_file(path: str) -> str:
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        beside = os.listdir(file.parent) if os.path.isdir(file.parent) else []
        near = get_close_matches(path, NAMES, n=1) or get_close_matches(file.name, beside, n=3)
        raise ModelError(
            given=f"template {path!r} is neither known nor a file",
            rule=f"a template is one of {', '.join(NAMES)}, or a path to a .jinja file",
            remedy=f"did you mean {' or '.join(near)}?" if near else "correct the name or the path",
        )
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            given=f"template {path} cannot be read: {error}", rule="a template is UTF-8 text", remedy="correct the file"
        ) from error


def render(conversation: Conversation, tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[Rendering, ...]:
    """Every learned turn in exactly one rendering, in the context that serving would give it.

    Turn i is the text after the generation prompt: whole(i) without before(i). Turns whose whole text begins the text
    of a later one share a rendering; a template that rewrites earlier turns gives one rendering per turn.
    """
    renderings: list[Rendering] = []
    for turn in reversed(conversation.turns):
        before = _write(conversation, turn, tokenizer, template, to_be_answered=True)
        whole = _write(conversation, turn + 1, tokenizer, template, to_be_answered=False)
        if not whole.startswith(before):
            raise _forced_otherwise(turn, before, whole)
        _add(renderings, whole, (len(before), len(whole)))
    return tuple(reversed(renderings))


def _add(renderings: list[Rendering], whole: str, span: tuple[int, int]) -> None:
    for index, later in enumerate(renderings):
        if later.text.startswith(whole) and later.spans[0][0] >= span[1]:
            renderings[index] = replace(later, spans=(span, *later.spans))
            return
    renderings.append(Rendering(whole, (span,)))


def _write(
    conversation: Conversation, count: int, tokenizer: PreTrainedTokenizerBase, template: str, *, to_be_answered: bool
) -> str:
    """The first ``count`` messages as text."""
    messages = [message.as_mapping() for message in conversation.messages[:count]]
    tools = [dict(tool) for tool in conversation.tools] or None
    try:
        text = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            chat_template=template,
            add_generation_prompt=to_be_answered,
            tokenize=False,
        )
    except TemplateSyntaxError as error:
        raise ModelError(
            given=f"the chat template is not valid Jinja: {error} (line {error.lineno})",
            rule="a chat template is a Jinja template",
            remedy="correct the template, or name another one",
        ) from error
    except (TemplateError, TypeError, ValueError) as error:
        raise DataError(
            given=f"the chat template cannot write the conversation up to messages[{count - 1}]: {error}",
            rule="the template decides which roles, orders and fields there are",
            remedy="correct the row, or name another template",
        ) from error
    return str(text)


def _forced_otherwise(turn: int, before: str, whole: str) -> DataError:
    same = next(
        (i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), min(len(before), len(whole))
    )
    return DataError(
        given=f"before messages[{turn}] the template's generation prompt writes {before[same:][:60]!r}, but the "
        f"rendered message has {whole[same:][:60]!r} there",
        rule="a turn is learned after exactly the text that the model is given when serving",
        remedy="give the message what the generation prompt opens (often reasoning_content), or name another template",
    )


def complete(completion: Completion, tokenizer: PreTrainedTokenizerBase) -> Rendering:
    """Plain text: the begin token if this tokenizer adds one by itself, the prompt, the completion, the end token."""
    if tokenizer.eos_token is None:
        raise ModelError(
            given="the tokenizer has no end token (eos_token)",
            rule="a completion ends with it, otherwise the model would never stop",
            remedy="set eos_token in tokenizer_config.json",
        )
    begin = (
        tokenizer.bos_token if _adds_begin(tokenizer) and not completion.prompt.startswith(tokenizer.bos_token) else ""
    )
    end = "" if completion.completion.endswith(tokenizer.eos_token) else tokenizer.eos_token
    before = begin + completion.prompt
    text = before + completion.completion + end
    return Rendering(text, ((len(before), len(text)),))


def _adds_begin(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
