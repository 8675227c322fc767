"""Tokenized prompts of a data set, for reinforcement learning and generation.

The counterpart of `dataset`, which tokenizes rows with their responses. The last answer of a row becomes the reference
of its task. No row is left out silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from burnish.data.dataset import DatasetSpec, unusable_error
from burnish.data.formats.meanings import look_alike
from burnish.data.generation_prefix import joined, without_beginning
from burnish.data.generation_prompt import generation_prompt, generation_prompt_text
from burnish.data.limits import Limit, prompt_table
from burnish.data.mixture import Mixture, NamedRows
from burnish.data.records import AnyExample, Completion, Conversation, Message, Task
from burnish.data.rendering import Rendering
from burnish.data.report import Unusable
from burnish.data.rows import Rows
from burnish.data.settings import MAX_OVERLONG_FRACTION
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template_parts import parts_of
from burnish.data.token_store import RowError
from burnish.data.tokenize import tokenize_prompts
from burnish.data.writer import Writer
from burnish.errors import DataError
from burnish.types import MediaRef

_MAX_PLACES = 5
"""Rows named in a line; the others are counted."""


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedPrompt:
    """Prompt of a row. Rollouts, evaluations and generation continue it."""

    row: int
    """Index of the row."""
    tokens: Tensor
    """[P] int64, token ids with the generation prompt at the end, P >= 1."""
    task: Task
    """Task of the row: prompt, generation prefix, and reference for graders."""
    media: tuple[MediaRef, ...] = ()
    """Images of the prompt."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of a data set, in the order of its rows."""

    preparation: DatasetSpec
    tokenized: tuple[TokenizedPrompt, ...]
    """Tokenized prompts, at least one."""
    too_long: tuple[Unusable, ...]
    """Rows that were left out because they are too long."""
    unusable: tuple[Unusable, ...]
    """Unusable rows, which were left out."""
    unused_keys: tuple[str, ...] = ()
    """Keys of messages that the template does not read."""

    @property
    def dropped(self) -> int:
        """Number of rows that were left out because they are too long."""
        return len(self.too_long)

    @property
    def left_out(self) -> tuple[Unusable, ...]:
        """Every row that was left out, with the reason."""
        return (*self.unusable, *self.too_long)

    @cached_property
    def spoken(self) -> bool:
        """True if the chat template renders any of the prompts; otherwise all are plain text."""
        return any(not isinstance(prompt.task.prompt, str) for prompt in self.tokenized)

    @cached_property
    def columns(self) -> frozenset[str]:
        """Names of columns that rewards may read, in addition to prompt and reference."""
        return frozenset(name for prompt in self.tokenized for name in prompt.task.extra)

    def lines(self) -> Iterator[str]:
        """Yields the lines of the report for the log."""
        builder, lengths = self.preparation.builder, [len(prompt.tokens) for prompt in self.tokenized]
        references = [prompt.task.reference for prompt in self.tokenized]
        empty = sum(isinstance(reference, str) and not reference.strip() for reference in references)
        referenced = sum(reference is not None for reference in references) - empty
        yield (
            f"{builder.rows.source}: {len(builder.rows):,} rows ({builder.format.name}), {len(lengths):,} prompts of "
            f"{min(lengths):,} to {max(lengths):,} tokens, {referenced:,} with a reference"
        )
        if empty:
            yield f"  {empty:,} rows have an empty reference"
        if not referenced and (column := look_alike("reference", sorted(self.columns))) is not None:
            yield f"  no row has a reference; the column {column} looks like it: columns={{reference: {column}}}"
        if self.dropped:
            places = ", ".join(row.where for row in self.too_long[:_MAX_PLACES])
            more = " ..." if self.dropped > _MAX_PLACES else ""
            yield f"  dropped {self.dropped:,} prompts for their length ({places}{more})"
        if unused_keys := self.unused_keys:
            yield f"  message keys without use: {', '.join(unused_keys)}"
        if self.unusable:
            yield f"  {len(self.unusable):,} rows cannot be used and were left out: unusable.jsonl says why"

    @property
    def notes(self) -> list[str]:
        """All but the first of the lines."""
        return [line.strip() for line in self.lines()][1:]

    def card(self) -> dict[str, object]:
        """JSON record with the names of `DataReport`."""
        rows = self.preparation.builder.rows
        lengths = [len(prompt.tokens) for prompt in self.tokenized]
        tokenizer = self.preparation.builder.writer.tokenizer
        return {
            "source": rows.source,
            "format": self.preparation.builder.format.name,
            "rows": len(rows),
            "groups": len(lengths),
            "tokens": sum(lengths),
            "trained_tokens": 0,
            "longest": max(lengths),
            "unusable": len(self.unusable),
            "notes": self.notes,
            "example": [[str(tokenizer.decode(self.tokenized[0].tokens.tolist())), False]],
        }


def as_task(example: AnyExample) -> Task:
    """Converts an example to a task with a reference: of a conversation with several turns, the last answer.

    Raises:
        DataError: the row compares answers, or is a document.
    """
    match example:
        case Task():
            return example
        case Completion():
            return Task(example.prompt, example.completion)
        case Conversation():
            last = example.turns[-1]
            before = tuple(replace(message, trained=False, weight=1.0) for message in example.messages[:last])
            return Task(before, example.messages[last].text)
    raise DataError(
        given=f"a row of the kind {type(example).__name__.lower()}",
        rule="a row of prompts has a prompt and a reference, or a question and its answer",
        remedy="name other data",
    )


def prompts(preparation: DatasetSpec, room: int, *, system: str | None = None, prefix: str = "") -> Prompts:
    """Tokenizes the prompts of all rows.

    Args:
        preparation: rows, template and rules.
        room: number of tokens of `preparation.max_length` reserved for the response.
        system: system message for conversations without one; None: none is added.
        prefix: beginning of all responses, at the end of every prompt.

    Raises:
        DataError: more rows are unusable than allowed, or prompts are too long and the rule is error.
    """
    builder, max_prompt_length = preparation.builder, preparation.max_length - room
    faults: list[RowError] = []
    rendered: list[tuple[int, Task, Rendering]] = []
    write = PromptWriter(builder.writer)
    for row in range(len(builder.rows)):
        try:
            example = builder.format.convert(builder.rows[row])
            task = without_beginning(as_task(example))
            task = _with_source(task if system is None else _with_system_prompt(system, task), builder.rows, row)
            rendering = write(task, example, prefix)
            rendered.append((row, replace(task, generation_prefix=rendering.generation_prefix), rendering))
        except DataError as error:
            faults.append(RowError(row, error.given, error.rule, error.remedy))
    samples = tokenize_prompts([rendering for _, _, rendering in rendered], builder.writer.tokenizer)
    tokenized: list[TokenizedPrompt] = []
    for (row, task, _), sample in zip(rendered, samples, strict=True):
        if isinstance(sample, DataError):
            faults.append(RowError(row, sample.given, sample.rule, sample.remedy))
        else:
            tokens = torch.tensor(sample.tokens, dtype=torch.int64)
            tokenized.append(TokenizedPrompt(row, tokens, task, sample.media))
    if not tokenized or len(faults) > preparation.max_invalid_fraction * len(builder.rows):
        raise unusable_error(
            builder.rows, sorted(faults, key=lambda fault: fault.row), preparation.max_invalid_fraction
        )
    short = tuple(prompt for prompt in tokenized if len(prompt.tokens) <= max_prompt_length)
    long = [prompt for prompt in tokenized if len(prompt.tokens) > max_prompt_length]
    _require_prompts(preparation, tokenized, long, room)
    unusable = tuple(Unusable(builder.rows.where(fault.row), fault.given, fault.rule, fault.remedy) for fault in faults)
    too_long = tuple(_too_long(builder.rows, prompt, preparation.limit, room) for prompt in long)
    return Prompts(preparation, short, too_long, unusable, tuple(sorted(write.unused_keys)))


def _with_source(task: Task, rows: Rows, row: int) -> Task:
    """Adds the name of the source as the column ``source``, unless the task has one, where sources are mixed or named.

    Rewards select their rows by it (``where: {source: …}``).
    """
    if not isinstance(rows, Mixture | NamedRows):
        return task
    return replace(task, extra={"source": rows.source_of(row), **task.extra})


def _with_system_prompt(system: str, task: Task) -> Task:
    """Adds a system message to the task, unless it has one."""
    if isinstance(task.prompt, str):
        raise DataError(
            given="a system prompt, and the row's prompt is plain text",
            rule="a system prompt is part of a conversation; plain text is continued unchanged",
            remedy="remove system, or name the column question, which makes it a user's message",
        )
    if task.prompt[0].role in ("system", "developer"):
        return task
    return replace(task, prompt=(Message("system", system), *task.prompt))


class PromptWriter:
    """Renders tasks to the text that the model continues."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.in_template = SpecialTokenText.of(self.writer.tokenizer, self.writer.template)
        self.in_text = SpecialTokenText.of(self.writer.tokenizer, None)
        self.unused_keys: set[str] = set()

    def __call__(self, task: Task, example: AnyExample, prefix: str) -> Rendering:
        beginning = task.generation_prefix + prefix
        if isinstance(task.prompt, str):
            rendering = generation_prompt_text(task.prompt + beginning, self.writer.tokenizer, self.in_text)
            return replace(rendering, generation_prefix=beginning)
        tools = example.tools if isinstance(example, Conversation | Task) else ()
        conversation = Conversation(task.prompt, tools)
        rendering = generation_prompt(conversation, self.writer, self.in_template)
        self.unused_keys.update(parts_of(self.writer).unused_keys(conversation))
        prefix_text = joined(rendering.generation_prefix, beginning)
        text = rendering.text.removesuffix(rendering.generation_prefix) + prefix_text
        start = len(text) - len(beginning)
        ordinary = ((start + a, start + b) for a, b in self.in_template.places(beginning))
        return replace(rendering, text=text, ordinary=(*rendering.ordinary, *ordinary), generation_prefix=prefix_text)


def _too_long(rows: Rows, prompt: TokenizedPrompt, limit: Limit, room: int) -> Unusable:
    return Unusable(
        rows.where(prompt.row),
        f"a prompt of {len(prompt.tokens):,} tokens, longer than {limit.tokens - room:,}",
        f"prompt and response (max_new_tokens: {room:,}) fill at most {limit}",
        f"{limit.raised(len(prompt.tokens) + room, then=', or ')}lower max_new_tokens",
    )


def _require_prompts(
    preparation: DatasetSpec, tokenized: Sequence[TokenizedPrompt], long: Sequence[TokenizedPrompt], room: int
) -> None:
    """Raises DataError if prompts are too long, more than the rule allows, or all of them."""
    rows, rule, limit = preparation.builder.rows, preparation.overlong, preparation.limit
    allowed = {"drop": 1.0, "auto": MAX_OVERLONG_FRACTION}.get(rule, 0.0) * len(rows)
    if len(long) < len(tokenized) and len(long) <= allowed:
        return
    longest = max(tokenized, key=lambda prompt: len(prompt.tokens))
    lengths = [len(prompt.tokens) for prompt in tokenized]
    shown = "\n  ".join(prompt_table(lengths, room, limit.tokens, limit.positions))
    raise DataError(
        given=f"{rows.where(longest.row)}: a prompt of {len(longest.tokens):,} tokens; {len(long):,} of "
        f"{len(tokenized):,} prompts are too long; of the prompts, a limit keeps:\n  {shown}",
        rule=f"prompt and response (max_new_tokens: {room:,}) fill at most {limit}"
        + (f"; overlong=auto leaves out up to {MAX_OVERLONG_FRACTION * 100:g} % of the rows" if rule == "auto" else ""),
        remedy=limit.raised(len(longest.tokens) + room)
        + "lower max_new_tokens, or leave such rows out with overlong=drop",
    )
