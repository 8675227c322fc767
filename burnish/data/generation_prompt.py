"""A conversation that waits for its answer, in tokens: what chat gives the model is what training gave it.

Beside `rendering`, which learns answers; here there is none yet. The same template, the same day, the same rule for
text of control tokens, and no second begin token.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from burnish.data.generation_prefix import opened_by_template
from burnish.data.records import Conversation
from burnish.data.rendering import Rendering, begin_token
from burnish.data.special_token_text import SEAL, SpecialTokenText, ordinary_ranges
from burnish.data.tokenize import tokenize
from burnish.data.writer import Writer
from burnish.errors import DataError


def prompt_messages(conversation: Conversation, writer: Writer) -> tuple[int, ...]:
    """The token ids of a conversation with the generation prompt behind it.

    Text of control tokens in what people say stays text, as in training.

    Raises:
        DataError: the template cannot write the messages, or decides by control text in them what to write.
    """
    control = SpecialTokenText.of(writer.tokenizer, writer.template)
    (sample,) = tokenize([generation_prompt(conversation, writer, control)], writer.tokenizer)
    if isinstance(sample, DataError):
        raise sample
    return tuple(int(token) for token in sample.tokens)


def generation_prompt(conversation: Conversation, writer: Writer, control: SpecialTokenText) -> Rendering:
    """The text of a conversation with the generation prompt behind it.

    Raises:
        DataError: see `prompt_messages`.
    """
    count = len(conversation.messages)
    text = writer.write(conversation, count, to_be_answered=True)
    ordinary: tuple[tuple[int, int], ...] = ()
    if (sealed := control.sealed(conversation)) is not None:
        marked = writer.write(sealed, count, to_be_answered=True)
        if marked.replace(SEAL, "") != text:
            raise DataError(
                given="a message has text of control tokens, and the template decides by it what to write",
                rule="text of a message stays text: only the template writes control tokens",
                remedy="say it without that text",
            )
        ordinary = ordinary_ranges(marked, control)
    opened = opened_by_template(conversation, writer, text)
    return Rendering(text, (), ordinary=ordinary, everything=True, generation_prefix=opened)


def generation_prompt_text(text: str, tokenizer: PreTrainedTokenizerBase, control: SpecialTokenText) -> Rendering:
    """Plain text that is to be continued, as `rendering.complete` begins it. `control` is that of plain text."""
    begin = begin_token(tokenizer)
    rest = text.removeprefix(begin)
    ordinary = tuple((len(begin) + a, len(begin) + b) for a, b in control.places(rest))
    return Rendering(begin + rest, (), ordinary=ordinary, everything=True)


def continued_prompt(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The token ids of plain text that is to be continued: after the begin token, if this tokenizer adds one itself."""
    begin = begin_token(tokenizer)
    return tuple(tokenizer.encode(begin + text.removeprefix(begin), add_special_tokens=False))
