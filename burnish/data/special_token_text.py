"""Text of control tokens in rows stays text: a user who writes "<|im_end|>" ends no turn.

Used by `rendering`, which finds out where such text of a row stands in a rendering, and by `tokenize`, which reads it
as ordinary characters. The way: row text is *sealed* (a private character is put into each control string) and rendered
a second time; the seals then show which control strings are the row's. For tokenising, a twin of the tokenizer knows
control tokens only by private names, and only those that the template wrote are given these names: one tokenisation,
the same ids, the same character offsets. Rows without such text (nearly all) take none of this.
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
"""Put after the first character of a control string of a row: breaks it, and shows where it comes from."""
_FIRST_NAME = 0x100000
"""First of the private characters that name control tokens in the twin."""
_FILLER = "\U0010fffd"
"""Makes a private name as long as the token's own text, so that offsets stay."""
_PRIVATE = re.compile("[\U00100000-\U0010fffd\U000f5ea1]")


@dataclass(frozen=True, eq=False)
class SpecialTokenText:
    """What must not become control tokens. Picklable.

    Special tokens must not in any text of a row. Tokens that are not special but that the template writes (<tool_call>,
    <think>) must not in what others say; an assistant may write them, since the model is to write them itself.
    """

    special: tuple[str, ...]
    """Texts of the tokenizer's special tokens."""
    written: tuple[str, ...]
    """Texts of other added tokens that the template has in its source. White space is no control text."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, template: Template | None) -> SpecialTokenText:
        """Of a tokenizer and its template; None: plain text, where only special tokens are control tokens."""
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
        """Where control strings stand in plain text."""
        return [match.span() for match in self.in_assistant.finditer(text)]

    def sealed(self, conversation: Conversation) -> Conversation | None:
        """The conversation with all its control strings sealed; None: it has none."""
        if not any(map(self._has, conversation.messages)) and not find_special_tokens(
            conversation.tools, self.in_others
        ):
            return None
        messages = tuple(self._sealed_message(message) for message in conversation.messages)
        tools = tuple(_sealed(tool, self.in_others) for tool in conversation.tools)
        return replace(conversation, messages=messages, tools=tools)

    def _has(self, message: Message) -> bool:
        pattern = self._forbidden(message)
        return find_special_tokens(message.content, pattern) or find_special_tokens(message.extra, pattern)

    def _forbidden(self, message: Message) -> re.Pattern[str]:
        return self.in_assistant if message.role == "assistant" else self.in_others

    def _sealed_message(self, message: Message) -> Message:
        pattern = self._forbidden(message)
        content, extra = _sealed(message.content, pattern), _sealed(dict(message.extra), pattern)
        return replace(message, content=content, extra=extra)


def ordinary_ranges(marked: str, control: SpecialTokenText) -> tuple[tuple[int, int], ...]:
    """Where the sealed control strings stand in a rendering, counted without the seals."""
    plain = marked.replace(SEAL, "")
    ranges = []
    for number, match in enumerate(re.finditer(SEAL, marked)):
        start = match.start() - number - 1
        if start >= 0 and (match_there := control.in_others.match(plain, start)):
            ranges.append(match_there.span())
    return tuple(ranges)


def find_special_tokens(value: object, pattern: re.Pattern[str]) -> bool:
    """Whether a pattern is anywhere in the texts of a value, in the keys of objects too."""
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
    """Longer ones first, as tokenizers match them; no text at all matches nothing."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


class Twin:
    """The same tokenizer, which knows control tokens only by private names."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        described = json.loads(tokenizer.to_str())
        added = [entry for entry in described["added_tokens"] if entry["content"].strip()]
        self._names = {entry["content"]: _name(index, entry["content"]) for index, entry in enumerate(added)}
        self._ids = {entry["content"]: entry["id"] for entry in added}
        self._pattern = any_of(tuple(self._names))
        _rename(described, self._names, self._ids)
        self.core = Tokenizer.from_str(json.dumps(described, ensure_ascii=False))
        self.core.no_truncation()
        self.core.no_padding()
        for text, name in self._names.items():
            assert self.core.token_to_id(name) == self._ids[text], f"the twin has the same ids ({text})"

    def named(self, text: str, ordinary: Sequence[tuple[int, int]]) -> str:
        """The text with private names for all control tokens but those in ordinary ranges; as long as before.

        Raises:
            DataError: the text itself has private names.
        """
        if _PRIVATE.search(text):
            raise DataError(
                given="the row has text of control tokens, and characters of the last private plane (U+100000 on)",
                rule="these characters stand for control tokens while text of control tokens is kept apart",
                remedy="remove such characters from the row",
            )

        def rename(match: re.Match[str]) -> str:
            ours = any(start < match.end() and match.start() < end for start, end in ordinary)
            return match[0] if ours else self._names[match[0]]

        return self._pattern.sub(rename, text)


def _name(index: int, text: str) -> str:
    return chr(_FIRST_NAME + index) + _FILLER * (len(text) - 1)


def _rename(described: dict[str, Any], names: Mapping[str, str], ids: Mapping[str, int]) -> None:
    """Renames added tokens, and takes their texts out of the vocabulary, in a tokenizer.json."""
    for entry in described["added_tokens"]:
        entry["content"] = names.get(entry["content"], entry["content"])
    model = described["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        for text, name in names.items():
            vocabulary.pop(text, None)
            vocabulary[name] = ids[text]
    elif isinstance(vocabulary, list):  # Unigram: pieces with scores, the index is the id
        for text, name in names.items():
            if ids[text] < len(vocabulary):
                vocabulary[ids[text]][0] = name
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        model["merges"] = [pair for pair in model["merges"] if not _makes(pair, names)]


def _makes(pair: str | list[str], names: Mapping[str, str]) -> bool:
    """Whether a merge has to do with an added token's text."""
    left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
    return left + right in names or left in names or right in names
