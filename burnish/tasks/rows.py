"""From a row of data and what was written to it, to what rewards see.

Between `burnish.data`, whose `Task` says what a row asks, and the rewards. Only the trainer's process needs this.
"""

from __future__ import annotations

from collections.abc import Sequence

from burnish.data.records import Message, Said, Task
from burnish.tasks.answer import Answer, Spoken


def answer_to(task: Task, text: str, token_ids: Sequence[int] | None = None) -> Answer:
    """A response to a task.

    Args:
        task: what the row asks, with its reference.
        text: what was written, decoded without the tokens that end a turn.
        token_ids: its tokens; None: not known, and rewards that count tokens cannot judge it.
    """
    tokens = None if token_ids is None else tuple(int(token) for token in token_ids)
    return Answer(_spoken(task.prompt), text, task.reference, task.extra, tokens)


def _spoken(said: Said) -> Spoken:
    return said if isinstance(said, str) else tuple(_mapping(message) for message in said)


def _mapping(message: Message) -> dict[str, object]:
    return message.as_mapping()
