"""Generation prompt: tokens of a conversation without its answer, the same in training, chat and serving.

Uses the template, the fixed date and the rule for text of control tokens of `rendering`; adds no second begin token.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from burnish.data.generation_prefix import opened_by_template
from burnish.data.image_text import require_image_support, with_images
from burnish.data.records import Conversation
from burnish.data.rendering import Rendering, begin_token
from burnish.data.special_token_text import SEAL, SpecialTokenText, ordinary_ranges
from burnish.data.template_parts import parts_of
from burnish.data.tokenize import Sample, not_encodable, tokenize_prompts
from burnish.data.writer import Writer
from burnish.errors import DataError


def prompt_messages(conversation: Conversation, writer: Writer) -> tuple[int, ...]:
    """Returns the token ids of a conversation with the generation prompt at its end.

    Text of control tokens in messages stays text, as in training.

    Raises:
        DataError: the template cannot render the messages, or changes its output by text of control tokens in them.
    """
    return tuple(prompt_sample(conversation, writer).tokens.tolist())


def prompt_sample(conversation: Conversation, writer: Writer) -> Sample:
    """Returns the tokens of a conversation with the generation prompt at its end, and its images.

    Raises:
        DataError: see `prompt_messages`; or an image cannot be used.
    """
    control = SpecialTokenText.of(writer.tokenizer, writer.template)
    (sample,) = tokenize_prompts([generation_prompt(conversation, writer, control)], writer.tokenizer)
    if isinstance(sample, DataError):
        raise sample
    return sample


def generation_prompt(conversation: Conversation, writer: Writer, control: SpecialTokenText) -> Rendering:
    """Renders a conversation with the generation prompt at its end.

    Raises:
        DataError: see `prompt_messages`.
    """
    if conversation.images:
        require_image_support(conversation, writer)
    parts_of(writer).require_all(conversation)
    count = len(conversation.messages)
    text = writer.write(conversation, count, add_generation_prompt=True)
    ordinary: tuple[tuple[int, int], ...] = ()
    if (sealed := control.sealed(conversation)) is not None:
        sealed_text = writer.write(sealed, count, add_generation_prompt=True)
        if sealed_text.replace(SEAL, "") != text:
            raise DataError(
                given="a message has text of control tokens, and the template decides by it what to write",
                rule="text of a message stays text: only the template writes control tokens",
                remedy="write the message without that text",
            )
        ordinary = ordinary_ranges(sealed_text, control)
    opened = opened_by_template(conversation, writer, text)
    rendering = Rendering(text, (), ordinary=ordinary, everything=True, generation_prefix=opened)
    return with_images(rendering, conversation, writer)


def generation_prompt_text(text: str, tokenizer: PreTrainedTokenizerBase, control: SpecialTokenText) -> Rendering:
    """Renders plain text that the model continues, like the prompt of `rendering.complete`."""
    begin = begin_token(tokenizer)
    rest = text.removeprefix(begin)
    ordinary = tuple((len(begin) + a, len(begin) + b) for a, b in control.places(rest))
    return Rendering(begin + rest, (), ordinary=ordinary, everything=True)


def continued_prompt(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Returns the token ids of plain text that the model continues, after the begin token if the tokenizer adds one.

    Raises:
        DataError: the text has half of a surrogate pair.
    """
    begin = begin_token(tokenizer)
    if (error := not_encodable(text)) is not None:
        raise error
    return tuple(tokenizer.encode(begin + text.removeprefix(begin), add_special_tokens=False))
