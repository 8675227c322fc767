"""What a reward sees of one response: the answer, what was asked, and what it can be checked against.

The record that goes to the worker processes. It knows no torch and no tokenizer, so that a worker starts soon;
`rows` makes it from a row of data and a response.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

Spoken = str | tuple[Mapping[str, object], ...]
"""Plain text, or messages as chat templates take them: ``({"role": "user", "content": "2+2?"},)``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. Example: ``Answer("What is 2 + 2?", "It is 4.", reference="4")``."""

    prompt: Spoken
    text: str
    """What was written, without the tokens that end a turn."""
    reference: object = None
    """The right answer, mostly text; None: the row has none."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other columns of the row, by name."""
    token_ids: tuple[int, ...] | None = None
    """The response's tokens; None: nobody tokenised it."""

    @property
    def asked(self) -> str:
        """The text of the prompt; of messages, what system and user say, a blank line between."""
        if isinstance(self.prompt, str):
            return self.prompt
        said = (message.get("content") for message in self.prompt if message.get("role") != "assistant")
        return "\n\n".join(each for each in said if isinstance(each, str))

    @property
    def is_conversational(self) -> bool:
        return not isinstance(self.prompt, str)

    @property
    def key(self) -> str:
        """sha256 of everything in it; the same content gives the same key in every process."""
        parts = (self.prompt, self.text, self.reference, sorted(self.extra.items()), self.token_ids)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
