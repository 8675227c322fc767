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
class Scored:
    """One response to a prompt, with K scores. Example: ``Scored("2+2=", " 5", scores=(0.0, 4.0))``."""

    prompt: Said
    response: Said
    """Of the same kind as the prompt."""
    scores: tuple[float, ...]
    """In the order in which the user names them."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """One response to a prompt, written in steps, each of which has a label.

    Example: ``Stepped("2+2+1=", ("2+2 is 4.", "4+1 is 6."), labels=(1.0, 0.0))``.
    """

    prompt: Said
    steps: tuple[str, ...]
    """At least one; none is white space alone."""
    labels: tuple[float, ...]
    """How good each is: 1 right, 0 wrong, or a number between, or any score."""
    tools: tuple[Mapping[str, object], ...] = ()
    """As in Conversation."""

    @property
    def text(self) -> str:
        """The response: steps stand in lines of their own, unless they end with white space themselves."""
        return "".join(step if step[-1].isspace() else f"{step}\n" for step in self.steps).rstrip()

    @property
    def ends(self) -> tuple[int, ...]:
        """In `text`, the last character of each step that is no white space."""
        sizes = [len(step) + (not step[-1].isspace()) for step in self.steps]
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return tuple(start + len(step.rstrip()) - 1 for start, step in zip(starts, self.steps, strict=True))

    @property
    def response(self) -> Said:
        """Of the same kind as the prompt."""
        return self.text if isinstance(self.prompt, str) else (Message("assistant", self.text, trained=True),)


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt without a response, which the model is to find, and what a response can be checked against."""

    prompt: Said
    reference: object = None
    """The right answer, as text, or a list of tests; None: nothing to check against."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other columns of the row, for whoever checks."""
    generation_prefix: str = field(default="", repr=False)
    """What of the response stands in the prompt's tokens, behind `prompt`: a thought that the template opens, a begun
    turn, a prefix. It is a part of what the response means; whoever reads a response reads both."""


Example = Conversation | Completion
"""What supervised fine-tuning learns from."""

Judged = Ranked | Labelled | Scored | Stepped
"""What somebody has judged, and a preference or a reward is learned from."""

AnyExample = Conversation | Completion | Document | Ranked | Labelled | Scored | Stepped | Task
"""What a row can mean."""


def answers(example: Judged) -> tuple[Said, ...]:
    """The responses that are judged, in the order of the row."""
    return example.responses if isinstance(example, Ranked) else (example.response,)
