"""Prompts as a teacher reads them: in its own chat template, or with context that the student does not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from burnish.data.prompts import PromptWriter
from burnish.data.records import Message, Task
from burnish.data.rendering import Rendering
from burnish.data.tokenize import tokenize_prompts
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.roles.filler import task_of
from burnish.types import Group


@dataclass(frozen=True, slots=True)
class PrivilegedContext:
    """Context that a teacher reads before the prompt: a text, or a column of the row."""

    text: str = ""
    """The same text for all prompts; "": none."""
    column: str = ""
    """Name of a column with text; "": none."""

    def of(self, task: Task) -> str:
        """The context of a task.

        Raises:
            DataError: the row has no text in the column.
        """
        if not self.column:
            return self.text
        value = task.reference if self.column == "reference" else task.extra.get(self.column)
        if not isinstance(value, str | int | float) or isinstance(value, bool) or not str(value).strip():
            raise DataError(
                given=f"a row whose column {self.column} has {value!r}",
                rule="the column that teacher.context_column names has the text that the teacher reads",
                remedy="correct the row, or name another column",
            )
        return "\n\n".join(part for part in (self.text, str(value)) if part)


@dataclass(eq=False)
class PromptRenderer:
    """Renders the prompts of tasks for a teacher."""

    writer: Writer
    """The teacher's tokenizer and chat template."""
    context: PrivilegedContext | None = None
    """None: the teacher reads the prompt alone."""
    limit: int | None = None
    """Maximum number of tokens of the teacher's prompt and the longest response; None: no limit."""
    _write: PromptWriter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._write = PromptWriter(self.writer)

    def seen(self, group: Group) -> Group:
        """The group with the prompt that the teacher reads; the responses are the same tokens."""
        prompt = self.prompt(task_of(group))
        longest = max(len(response.tokens) for response in group.responses)
        if self.limit is not None and len(prompt) + longest > self.limit:
            raise DataError(
                given=f"a prompt of {len(prompt):,} tokens for the teacher, with a response of {longest:,}",
                rule=f"they fill at most the {self.limit:,} positions of the teacher",
                remedy="shorten the context of the teacher, or lower max_new_tokens",
            )
        return replace(group, prompt=prompt)

    def opened_beyond(self, task: Task) -> str:
        """What the teacher's generation prompt opens and the student's does not, such as a thought; "": nothing."""
        theirs = self._rendered(replace(task, generation_prefix="")).generation_prefix
        return theirs.removeprefix(task.generation_prefix) if theirs.startswith(task.generation_prefix) else ""

    def _rendered(self, task: Task) -> Rendering:
        given = task if self.context is None else _with_context(task, self.context.of(task))
        return self._write(given, given, "")

    def prompt(self, task: Task) -> Tensor:
        """[P] int64, the teacher's prompt with the generation prompt at its end.

        Raises:
            DataError: the template cannot render the task, or the row has no context.
        """
        [sample] = tokenize_prompts([self._rendered(task)], self.writer.tokenizer)
        if isinstance(sample, DataError):
            raise sample
        return torch.tensor(sample.tokens, dtype=torch.int64)


def _with_context(task: Task, context: str) -> Task:
    """The task with the context before it: in its system message, or before its text."""
    if isinstance(task.prompt, str):
        return replace(task, prompt=f"{context}\n\n{task.prompt}")
    first, rest = task.prompt[0], task.prompt[1:]
    if first.role in ("system", "developer") and first.content is not None:
        return replace(task, prompt=(replace(first, content=f"{first.content}\n\n{context}"), *rest))
    return replace(task, prompt=(Message("system", context), *task.prompt))


def differs_by_row(context: PrivilegedContext, tasks: Sequence[Task]) -> bool:
    """Whether some tasks have another context than the others."""
    return len({context.of(task) for task in tasks}) > 1
