"""Images in renderings: the mark of each, which the chat template writes, becomes the text of its image tokens.

Between `rendering` and `tokenize`. As transformers' processors do it: in the text, before it is tokenized, since a
tokenizer may join characters around an image with those of its text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from burnish.data.records import Conversation
from burnish.data.rendering import Range, RenderedImage, Rendering
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.vision.processing import ImageProcessing


def with_images_of(renderings: Sequence[Rendering], conversation: Conversation, writer: Writer) -> list[Rendering]:
    """The renderings of a conversation, of which the last ends with its last learned turn, with their images.

    Raises:
        DataError: see `with_images`.
    """
    last = conversation.turns[-1] if conversation.turns else len(conversation.messages)
    needed = sum(len(message.images) for message in conversation.messages[:last])
    return [
        with_images(rendering, conversation, writer, needed if rendering is renderings[-1] else 0)
        for rendering in renderings
    ]


def with_images(
    rendering: Rendering, conversation: Conversation, writer: Writer, needed: int | None = None
) -> Rendering:
    """The rendering with the text of its images, and references to their files.

    Args:
        rendering: of the conversation, or of its beginning.
        conversation: its images are in the order of their marks.
        writer: knows the image processing of the model.
        needed: images that the rendering has at least; None: all.

    Raises:
        DataError: the model takes text alone, an answer has an image, the template writes no mark for an image, or an
            image cannot be used (see `vision.sources.image_file`).
    """
    sources = conversation.images
    if not sources:
        return rendering
    processing = require_image_support(conversation, writer)
    marks = _marks(rendering, processing.mark)
    if not (len(sources) if needed is None else needed) <= len(marks) <= len(sources):
        raise DataError(
            given=f"{len(sources)} images, for which the chat template writes {len(marks)} marks ({processing.mark})",
            rule="it writes one for each",
            remedy="name the template of the vision-language model (chat_template), or remove the images",
        )
    files = [processing.file_of(source) for source in sources[: len(marks)]]
    texts = [processing.text_of(file.width, file.height) for file in files]
    token = processing.family.image_token(processing.config)
    images = tuple(
        RenderedImage(file.path, file.digest, token, text.num_tokens, text.num_patches)
        for file, text in zip(files, texts, strict=True)
    )
    return replace(_replaced(rendering, marks, [text.text for text in texts]), images=images)


def require_image_support(conversation: Conversation, writer: Writer) -> ImageProcessing:
    """The image processing for a conversation with images.

    Raises:
        DataError: the model takes text alone, or an answer has an image.
    """
    if writer.images is None:
        raise DataError(
            given=f"the row has {len(conversation.images)} images",
            rule="the model takes text alone, or the stage does (distill and ppo)",
            remedy="name a vision-language model (Qwen2.5-VL, Gemma 3, SmolVLM, Idefics3), or leave such rows out",
        )
    if any(message.role == "assistant" and message.images for message in conversation.messages):
        raise DataError(
            given="a message of the assistant has an image",
            rule="models write text; images are given to them",
            remedy="move the image to the user's message, or leave the row out",
        )
    return writer.images


def _marks(rendering: Rendering, mark: str) -> list[Range]:
    """Characters of the marks that the template wrote; text of a message that reads like one stays text."""
    ordinary = set(rendering.ordinary)
    return [match.span() for match in re.finditer(re.escape(mark), rendering.text) if match.span() not in ordinary]


def _replaced(rendering: Rendering, marks: Sequence[Range], texts: Sequence[str]) -> Rendering:
    """The rendering with other text at the marks, and all its ranges moved."""
    starts = [start for start, _ in marks]
    grown = [0, *accumulate(len(text) - (end - start) for (start, end), text in zip(marks, texts, strict=True))]

    def before(end: int) -> int:
        """Characters that the marks before the end of a range have grown by."""
        return grown[bisect_right(starts, end - 1)]

    def moved(ranges: Sequence[Range]) -> tuple[Range, ...]:
        return tuple((first + grown[bisect_right(starts, first)], last + before(last)) for first, last in ranges)

    pieces, at = [], 0
    for (start, end), text in zip(marks, texts, strict=True):
        pieces += [rendering.text[at:start], text]
        at = end
    return replace(
        rendering,
        text="".join([*pieces, rendering.text[at:]]),
        spans=moved(rendering.spans),
        skipped=moved(rendering.skipped),
        ordinary=moved(rendering.ordinary),
        step_labels=tuple((end + before(end + 1), label) for end, label in rendering.step_labels),
    )
