"""What a row means: the typed examples that every format becomes, and every later step takes.

Between `formats` (rows to examples) and the renderings (examples to text). A prompt or a response is either text, which
no template touches, or messages, which the chat template writes. One rule decides, in all formats: a column called
`prompt` that holds text is plain text; a question, an instruction or a problem is a user's message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. Example: ``Message("assistant", "4", trained=True)``."""

    role: str
    """One of ROLES."""
    content: str | None
    """What is said; None: only in an assistant's message that calls tools."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other keys of the message that have a value (tool_calls, reasoning_content, name): the template sees them."""
    trained: bool = False
    """Whether the model is to learn to write this message; only an assistant's."""
    weight: float = field(default=1.0, repr=False)
    """How much each of its tokens counts in the loss, > 0; 1 in messages that are not learned."""

    def as_mapping(self) -> dict[str, object]:
        """The message as templates expect it."""
        content = {} if self.content is None else {"content": self.content}
        return {"role": self.role, **content, **self.extra}


Said = str | tuple[Message, ...]
"""A prompt or a response: plain text, or messages."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages to be rendered by a chat template."""

    messages: tuple[Message, ...]
    """In their order, at least one."""
    tools: tuple[Mapping[str, object], ...] = ()
    """JSON schemas of the tools that the template lists; empty: none."""

    @property
    def turns(self) -> tuple[int, ...]:
        """Indices of the messages to learn. A message that opens the conversation answers nothing: it is context."""
        return tuple(i for i, message in enumerate(self.messages) if message.trained and i > 0)


@dataclass(frozen=True, slots=True)
class Completion:
    """Plain text and its continuation, which is learned; no template."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Document:
    """Plain text, all of which is learned: what continued pre-training reads."""

    text: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """Several responses to one prompt, compared. A preference is two, with the scores 1 and 0.

    Example: ``Ranked("2+2=", (" 4", " 5"), scores=(1.0, 0.0))``.
    """

    prompt: Said
    responses: tuple[Said, ...]
    """At least two, of the same kind as the prompt."""
    scores: tuple[float, ...]
    """One for each response, not all the same; higher is better."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One response to a prompt, with a verdict. Example: ``Labelled("2+2=", " 5", label=False)``."""

    prompt: Said
    response: Said
    """Of the same kind as the prompt."""
    label: bool
    """Whether the response is wanted."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt without a response, which the model is to find, and what a response can be checked against."""

    prompt: Said
    reference: object = None
    """The right answer, as text, or a list of tests; None: nothing to check against."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other columns of the row, for whoever checks."""


Example = Conversation | Completion
"""What supervised fine-tuning learns from."""

AnyExample = Conversation | Completion | Document | Ranked | Labelled | Task
"""What a row can mean."""
