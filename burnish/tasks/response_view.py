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
class ResponseView:
    """One response. Example: ``ResponseView("What is 2 + 2?", "It is 4.", reference="4")``."""

    prompt: Spoken
    text: str
    """The response from its beginning, without the tokens that end a turn: `generation_prefix` and what was written."""
    reference: object = None
    """The right answer, mostly text; None: the row has none."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """All other columns of the row, by name."""
    token_ids: tuple[int, ...] | None = None
    """The tokens that were written; None: nobody tokenised it."""
    generation_prefix: str = ""
    """The beginning of `text` that stood in the prompt: a thought that the template opened, a begun turn, a prefix."""

    def __post_init__(self) -> None:
        assert self.text.startswith(self.generation_prefix), "a response begins with what stood of it in the prompt"

    @property
    def written(self) -> str:
        """What the model wrote itself. For its length alone: what a response says is `text`."""
        return self.text.removeprefix(self.generation_prefix)

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
        parts = (
            self.prompt,
            self.text,
            self.reference,
            sorted(self.extra.items()),
            self.token_ids,
            self.generation_prefix,
        )
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
