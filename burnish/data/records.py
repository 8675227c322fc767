"""Typed examples: the records that every format converts rows to.

Between `formats` (rows to examples) and the renderings (examples to text). A prompt or a response is either plain text,
which no template changes, or messages, which the chat template writes. All formats follow one rule: a column `prompt`
that holds text is plain text; a question, an instruction or a problem is a user's message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text in a message with images. Example: ``TextPart("What is this?")``."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """Image in a message. Example: ``ImagePart("photos/cat.png")``."""

    source: str = field(repr=False)
    """Path, or the image itself as a data URL; see `vision.sources`. "": the next image of the row's column."""


Part = TextPart | ImagePart
"""Part of a message's content."""


@dataclass(frozen=True, slots=True)
class Message:
    """Message of a conversation. Example: ``Message("assistant", "4", trained=True)``."""

    role: str
    """One of ROLES."""
    content: str | tuple[Part, ...] | None
    """Text of the message, or its parts in order, at least one (rows whose parts are all text are read as one text);
    None: only in an assistant's message that calls tools."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other keys of the message that have a value (tool_calls, reasoning_content, name); templates read them."""
    trained: bool = False
    """True if the message is in the loss; only an assistant's."""
    weight: float = field(default=1.0, repr=False)
    """Weight of each of its tokens in the loss, > 0; 1 in messages that are not learned."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Parts of the content; a text is one part, no content is none."""
        if isinstance(self.content, str):
            return (TextPart(self.content),)
        return self.content or ()

    @property
    def text(self) -> str | None:
        """Text of the content, without its images; text parts are joined without a space, as templates for parts do.
        None: no content."""
        if not isinstance(self.content, tuple):
            return self.content
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[str, ...]:
        """Sources of its images, in order."""
        return tuple(part.source for part in self.parts if isinstance(part, ImagePart))

    @property
    def identity(self) -> str:
        """Text by which two messages are compared: that of the content, with the sources of its images."""
        if not isinstance(self.content, tuple):
            return self.content or ""
        return "".join(part.text if isinstance(part, TextPart) else f"<image {part.source}>" for part in self.parts)

    def with_text(self, change: Callable[[str], str]) -> Message:
        """The message with each text of its content changed: the whole, or the texts between its images."""
        if not self.images:
            return self if self.text is None else replace(self, content=change(self.text))
        parts: list[Part] = []
        for is_text, members in groupby(self.parts, key=lambda part: isinstance(part, TextPart)):
            if is_text:
                parts.append(TextPart(change("".join(part.text for part in members if isinstance(part, TextPart)))))
            else:
                parts += members
        return replace(self, content=tuple(parts))

    def as_mapping(self) -> dict[str, object]:
        """Returns the message as the dictionary that templates expect and rows have."""
        content = {} if self.content is None else {"content": self._content()}
        return {"role": self.role, **content, **self.extra}

    def _content(self) -> str | list[dict[str, str]] | None:
        if all(isinstance(part, TextPart) for part in self.parts):
            return self.text
        return [
            {"type": "text", "text": part.text}
            if isinstance(part, TextPart)
            else {"type": "image", "image": part.source}
            for part in self.parts
        ]


TextOrMessages = str | tuple[Message, ...]
"""A prompt or a response: plain text, or messages."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that a chat template renders."""

    messages: tuple[Message, ...]
    """At least one, in order."""
    tools: tuple[Mapping[str, object], ...] = ()
    """JSON schemas of the tools that the template lists; empty: none."""

    @property
    def images(self) -> tuple[str, ...]:
        """Sources of the images of all messages, in order."""
        return tuple(source for message in self.messages for source in message.images)

    @property
    def turns(self) -> tuple[int, ...]:
        """Indices of the learned messages. The first message follows no prompt, so it is context."""
        return tuple(i for i, message in enumerate(self.messages) if message.trained and i > 0)


@dataclass(frozen=True, slots=True)
class Completion:
    """Plain text and its continuation, which is learned; no template is used."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Document:
    """Plain text for continued pre-training, learned as a whole."""

    text: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """Compared responses to one prompt, with scores. A preference has two, with the scores 1 and 0.

    Example: ``Ranked("2+2=", (" 4", " 5"), scores=(1.0, 0.0))``.
    """

    prompt: TextOrMessages
    responses: tuple[TextOrMessages, ...]
    """At least two, of the same kind as the prompt."""
    scores: tuple[float, ...]
    """One score for each response, not all the same; higher is better."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Response to a prompt, with a binary label. Example: ``Labelled("2+2=", " 5", label=False)``."""

    prompt: TextOrMessages
    response: TextOrMessages
    """Of the same kind as the prompt."""
    label: bool
    """True: a desirable response; False: an undesirable one."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Response to a prompt, with K scores. Example: ``Scored("2+2=", " 5", scores=(0.0, 4.0))``."""

    prompt: TextOrMessages
    response: TextOrMessages
    """Of the same kind as the prompt."""
    scores: tuple[float, ...]
    """In the order of the score columns that the user names."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """Response to a prompt in steps, each with a label.

    Example: ``Stepped("2+2+1=", ("2+2 is 4.", "4+1 is 6."), labels=(1.0, 0.0))``.
    """

    prompt: TextOrMessages
    steps: tuple[str, ...]
    """Texts of the steps, at least one; none is white space alone."""
    labels: tuple[float, ...]
    """Label of each step: 1 right, 0 wrong, a number between, or any score."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""

    @property
    def text(self) -> str:
        """Text of the response: a line break follows each step that does not end with white space."""
        return "".join(step if step[-1].isspace() else f"{step}\n" for step in self.steps).rstrip()

    @property
    def ends(self) -> tuple[int, ...]:
        """Index in `text` of the last non-space character of each step."""
        sizes = [len(step) + (not step[-1].isspace()) for step in self.steps]
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return tuple(start + len(step.rstrip()) - 1 for start, step in zip(starts, self.steps, strict=True))

    @property
    def response(self) -> TextOrMessages:
        """Response as text or as an assistant's message, like the prompt."""
        return self.text if isinstance(self.prompt, str) else (Message("assistant", self.text, trained=True),)


@dataclass(frozen=True, slots=True)
class Task:
    """Prompt that the model answers in reinforcement learning, with the reference for graders."""

    prompt: TextOrMessages
    reference: object = None
    """Right answer as text, or a list of tests; None: there is none."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other columns of the row, for rewards."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""
    generation_prefix: str = field(default="", repr=False)
    """Beginning of the response that is part of the prompt's tokens, after `prompt`: a reasoning block opened by the
    template, a begun turn, a prefix. A grader reads it as the beginning of the response."""


Example = Conversation | Completion
"""Examples of supervised fine-tuning."""

RatedExample = Ranked | Labelled | Scored | Stepped
"""Examples with scores or labels, for preference losses and reward models."""

AnyExample = Conversation | Completion | Document | Ranked | Labelled | Scored | Stepped | Task
"""Any example of a row."""


def responses_of(example: RatedExample) -> tuple[TextOrMessages, ...]:
    """Returns the rated responses, in the order of the row."""
    return example.responses if isinstance(example, Ranked) else (example.response,)
