"""From a row of data and what was written to it, to what rewards see.

Between `burnish.data`, whose `Task` says what a row asks, and the rewards. Only the trainer's process needs this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish.data.records import Message, Said, Task
from burnish.tasks.response_view import ResponseView, Spoken
from burnish.types import Group

Decode = Callable[[Sequence[int]], str]
"""Token ids → text, without a token that ends a turn at their end."""


def response_view(task: Task, written: str, token_ids: Sequence[int] | None = None) -> ResponseView:
    """A response to a task, with what of it stood in the prompt.

    Args:
        task: what the row asks, with its reference.
        written: what the model wrote, decoded without the tokens that end a turn.
        token_ids: its tokens; None: not known, and rewards that count tokens cannot judge it.
    """
    tokens = None if token_ids is None else tuple(int(token) for token in token_ids)
    begun = task.generation_prefix
    return ResponseView(_spoken(task.prompt), begun + written, task.reference, task.extra, tokens, begun)


def response_views(task: Task, group: Group, decode: Decode) -> list[ResponseView]:
    """The responses of a group to its task."""
    listed = (response.tokens.tolist() for response in group.responses)
    prompt = group.prompt.tolist() if task.generation_prefix else []
    return [response_view(task, decoded_after(prompt, tokens, decode), tokens) for tokens in listed]


def decoded_after(prompt: Sequence[int], tokens: Sequence[int], decode: Decode) -> str:
    """The text of tokens behind others, both decoded together: alone, many tokenizers would drop a space between."""
    return decode([*prompt, *tokens])[len(decode(prompt)) :] if prompt else decode(tokens)


def _spoken(said: Said) -> Spoken:
    return said if isinstance(said, str) else tuple(_mapping(message) for message in said)


def _mapping(message: Message) -> dict[str, object]:
    return message.as_mapping()
