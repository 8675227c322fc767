"""Record of one response for a reward: prompt, response text, reference and other columns.

It is sent to the worker processes, and imports neither torch nor a tokenizer, so that a worker starts quickly.
`response_views` makes it from a row of data and a response.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

PromptContent = str | tuple[Mapping[str, object], ...]
"""Plain text, or messages as chat templates take them: ``({"role": "user", "content": "2+2?"},)``."""


def text_of_content(content: object) -> str | None:
    """Text of a message's content, with ``<image>`` for an image; None: it has none."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "<image>")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else None


@dataclass(frozen=True, slots=True)
class ResponseView:
    """One response with its prompt. Example: ``ResponseView("What is 2 + 2?", "It is 4.", reference="4")``."""

    prompt: PromptContent
    text: str
    """The response from its beginning, without the tokens that end a turn: `generation_prefix` + `written`."""
    reference: object = None
    """The right answer, usually text; None: the row has none."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other columns of the row, by name."""
    token_ids: tuple[int, ...] | None = None
    """The tokens that the model wrote; None: not known."""
    generation_prefix: str = ""
    """Beginning of `text` that is part of the prompt: a thought that the template opened, a begun turn, a prefix."""

    def __post_init__(self) -> None:
        assert self.text.startswith(self.generation_prefix), "a response begins with its generation prefix"

    @property
    def written(self) -> str:
        """Text that the model wrote. Only for lengths: the whole response is `text`."""
        return self.text.removeprefix(self.generation_prefix)

    @property
    def asked(self) -> str:
        """Prompt as text; of messages, the contents of system and user messages with a blank line between, and
        ``<image>`` for an image."""
        if isinstance(self.prompt, str):
            return self.prompt
        contents = (message.get("content") for message in self.prompt if message.get("role") != "assistant")
        return "\n\n".join(text for text in map(text_of_content, contents) if text is not None)

    @property
    def is_conversational(self) -> bool:
        return not isinstance(self.prompt, str)

    @property
    def key(self) -> str:
        """sha256 of all fields; the same content gives the same key in every process."""
        parts = (
            self.prompt,
            self.text,
            self.reference,
            sorted(self.extra.items()),
            self.token_ids,
            self.generation_prefix,
        )
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
