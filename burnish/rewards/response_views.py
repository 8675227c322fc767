"""Makes the `ResponseView`s of rewards from rows of data and responses. Runs in the trainer's process only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish.data.records import Task, TextOrMessages
from burnish.rewards.response_view import PromptContent, ResponseView
from burnish.types import Group

Decode = Callable[[Sequence[int]], str]
"""Token ids → text, without a final token that ends a turn."""


def response_view(task: Task, written: str, token_ids: Sequence[int] | None = None) -> ResponseView:
    """View of a response to a task, with its generation prefix.

    Args:
        task: prompt and reference of a row.
        written: text that the model wrote, decoded without the tokens that end a turn.
        token_ids: its tokens; None: not known, and rewards that count tokens fail.
    """
    tokens = None if token_ids is None else tuple(int(token) for token in token_ids)
    prefix = task.generation_prefix
    return ResponseView(_prompt_content(task.prompt), prefix + written, task.reference, task.extra, tokens, prefix)


def response_views(task: Task, group: Group, decode: Decode) -> list[ResponseView]:
    """Views of the responses of a group to its task."""
    token_lists = (response.tokens.tolist() for response in group.responses)
    prompt = group.prompt.tolist() if task.generation_prefix else []
    return [response_view(task, decoded_after(prompt, tokens, decode), tokens) for tokens in token_lists]


def decoded_after(prompt: Sequence[int], tokens: Sequence[int], decode: Decode) -> str:
    """Text of tokens that follow others, decoded together with them: alone, many tokenizers drop the space between."""
    return decode([*prompt, *tokens])[len(decode(prompt)) :] if prompt else decode(tokens)


def _prompt_content(prompt: TextOrMessages) -> PromptContent:
    return prompt if isinstance(prompt, str) else tuple(message.as_mapping() for message in prompt)
