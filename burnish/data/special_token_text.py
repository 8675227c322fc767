"""Text of control tokens in rows: it stays text, so "<|im_end|>" in a user's message ends no turn.

Control tokens are the tokenizer's special tokens and the other added tokens that the template writes. `rendering`
locates such text of a row in a rendering, and `tokenize` tokenizes it as ordinary characters. Method: the row's text is
*sealed* (a private character is inserted into each control string) and rendered a second time; the seals show which
control strings come from the row. For tokenization, a copy of the tokenizer knows control tokens only by private
aliases, and only the control tokens that the template wrote are replaced by aliases: one tokenization, the same ids,
the same character offsets. Rows without such text (nearly all) skip all of this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from burnish.data.records import Conversation, Message
from burnish.data.template import Template
from burnish.errors import DataError

SEAL = "\U000f5ea1"
"""Inserted after the first character of a control string of a row: breaks the string and marks its origin."""
_FIRST_ALIAS = 0x100000
"""First of the private characters that alias control tokens."""
_FILLER = "\U0010fffd"
"""Pads an alias to the length of the token's text, so that offsets stay the same."""
_PRIVATE = re.compile("[\U00100000-\U0010fffd\U000f5ea1]")


@dataclass(frozen=True, eq=False)
class SpecialTokenText:
    """Texts that must not become control tokens. Picklable.

    Special tokens are excluded in all texts of a row. Other added tokens that the template writes (<tool_call>,
    <think>) are excluded in messages of other roles than the assistant; the assistant's text may have them, since the
    model generates them.
    """

    special: tuple[str, ...]
    """Texts of the tokenizer's special tokens."""
    written: tuple[str, ...]
    """Texts of other added tokens in the template's source. White space does not count."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, template: Template | None) -> SpecialTokenText:
        """Collects the texts of a tokenizer and its template; None: plain text, which has only special tokens."""
        added = tokenizer.added_tokens_decoder.values()
        special = {str(token) for token in added if token.special} | set(tokenizer.all_special_tokens)
        source = "" if template is None else template.source + (template.with_tools or "")
        written = {str(token) for token in added if str(token) in source} - special
        return cls(*(tuple(sorted(text for text in texts if text.strip())) for texts in (special, written)))

    @cached_property
    def in_assistant(self) -> re.Pattern[str]:
        return any_of(self.special)

    @cached_property
    def in_others(self) -> re.Pattern[str]:
        return any_of((*self.special, *self.written))

    def places(self, text: str) -> list[tuple[int, int]]:
        """Returns the character ranges of control strings in plain text."""
        return [match.span() for match in self.in_assistant.finditer(text)]

    def sealed(self, conversation: Conversation) -> Conversation | None:
        """Returns the conversation with all its control strings sealed; None: it has none."""
        if not any(map(self._has, conversation.messages)) and not find_special_tokens(
            conversation.tools, self.in_others
        ):
            return None
        messages = tuple(self._sealed_message(message) for message in conversation.messages)
        tools = tuple(_sealed(tool, self.in_others) for tool in conversation.tools)
        return replace(conversation, messages=messages, tools=tools)

    def _has(self, message: Message) -> bool:
        pattern = self._forbidden(message)
        return find_special_tokens(message.text, pattern) or find_special_tokens(message.extra, pattern)

    def _forbidden(self, message: Message) -> re.Pattern[str]:
        return self.in_assistant if message.role == "assistant" else self.in_others

    def _sealed_message(self, message: Message) -> Message:
        pattern = self._forbidden(message)
        sealed = message.with_text(lambda text: _sealed(text, pattern))
        return replace(sealed, extra=_sealed(dict(message.extra), pattern))


def ordinary_ranges(sealed: str, control: SpecialTokenText) -> tuple[tuple[int, int], ...]:
    """Character ranges of the sealed control strings of a rendering, in the text without seals."""
    plain = sealed.replace(SEAL, "")
    ranges = []
    for number, match in enumerate(re.finditer(SEAL, sealed)):
        start = match.start() - number - 1
        if start >= 0 and (special_text := control.in_others.match(plain, start)):
            ranges.append(special_text.span())
    return tuple(ranges)


def find_special_tokens(value: object, pattern: re.Pattern[str]) -> bool:
    """True if the pattern matches in any text of a value, including the keys of objects."""
    if isinstance(value, str):
        return pattern.search(value) is not None
    if isinstance(value, Mapping):
        return any(
            find_special_tokens(key, pattern) or find_special_tokens(entry, pattern) for key, entry in value.items()
        )
    return isinstance(value, list | tuple) and any(find_special_tokens(entry, pattern) for entry in value)


def _sealed(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(lambda match: match[0][0] + SEAL + match[0][1:], value)
    if isinstance(value, Mapping):
        return {_sealed(key, pattern): _sealed(entry, pattern) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_sealed(entry, pattern) for entry in value]
    return value


def any_of(texts: Sequence[str]) -> re.Pattern[str]:
    """Pattern of any of the texts, longer ones first, as tokenizers match them; without texts it never matches."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


class AliasTokenizer:
    """Copy of a tokenizer that knows control tokens only by private aliases."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        settings = json.loads(tokenizer.to_str())
        added = [entry for entry in settings["added_tokens"] if entry["content"].strip()]
        self._aliases = {entry["content"]: _alias(index, entry["content"]) for index, entry in enumerate(added)}
        self._ids = {entry["content"]: entry["id"] for entry in added}
        self._pattern = any_of(tuple(self._aliases))
        _rename(settings, self._aliases, self._ids)
        self.core = Tokenizer.from_str(json.dumps(settings, ensure_ascii=False))
        self.core.no_truncation()
        self.core.no_padding()
        for text, alias in self._aliases.items():
            assert self.core.token_to_id(alias) == self._ids[text], f"the copy has the same ids ({text})"

    def with_aliases(self, text: str, ordinary: Sequence[tuple[int, int]]) -> str:
        """Replaces all control tokens outside the ordinary ranges by their aliases; the length stays the same.

        Raises:
            DataError: the text itself has private characters of aliases.
        """
        if _PRIVATE.search(text):
            raise DataError(
                given="the row has text of control tokens, and characters of the last private plane (U+100000 on)",
                rule="these characters are aliases of control tokens where a row has text of control tokens",
                remedy="remove such characters from the row",
            )

        def rename(match: re.Match[str]) -> str:
            is_ordinary = any(start < match.end() and match.start() < end for start, end in ordinary)
            return match[0] if is_ordinary else self._aliases[match[0]]

        return self._pattern.sub(rename, text)


def _alias(index: int, text: str) -> str:
    return chr(_FIRST_ALIAS + index) + _FILLER * (len(text) - 1)


def _rename(settings: dict[str, Any], aliases: Mapping[str, str], ids: Mapping[str, int]) -> None:
    """Renames added tokens in a tokenizer.json, and removes their texts from its vocabulary."""
    for entry in settings["added_tokens"]:
        entry["content"] = aliases.get(entry["content"], entry["content"])
    model = settings["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        for text, alias in aliases.items():
            vocabulary.pop(text, None)
            vocabulary[alias] = ids[text]
    elif isinstance(vocabulary, list):  # Unigram: pieces with scores, the index is the id
        for text, alias in aliases.items():
            if ids[text] < len(vocabulary):
                vocabulary[ids[text]][0] = alias
    if model.get("unk_token") in aliases:
        model["unk_token"] = aliases[model["unk_token"]]
    if model.get("merges"):
        model["merges"] = [pair for pair in model["merges"] if not _involves(pair, aliases)]


def _involves(pair: str | list[str], aliases: Mapping[str, str]) -> bool:
    """True if a merge has or makes the text of an added token."""
    left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
    return left + right in aliases or left in aliases or right in aliases
