"""Rows become prompts that wait for a response, in tokens: what learning by trying begins with.

Beside `prepare`, which learns the answers in rows. Of a row with an answer, its last one is what a response is checked
against. Nothing is left out silently, as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from burnish.data.dataset import DatasetSpec, unusable_error
from burnish.data.generation_prefix import joined, without_beginning
from burnish.data.generation_prompt import generation_prompt, generation_prompt_text
from burnish.data.mixture import Mixture, NamedRows
from burnish.data.records import AnyExample, Completion, Conversation, Message, Task
from burnish.data.rendering import Rendering
from burnish.data.report import Unusable
from burnish.data.rows import Rows
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.token_store import RowError
from burnish.data.tokenize import tokenize
from burnish.errors import DataError


@dataclass(frozen=True, eq=False, slots=True)
class TokenizedPrompt:
    """A row's prompt."""

    row: int
    """Index of the row."""
    tokens: tuple[int, ...]
    """At least one; with the generation prompt behind it."""
    task: Task
    """What it means, what of the response stands in it, and what a response is checked against."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """The prompts of a set, in the order of its rows."""

    preparation: DatasetSpec
    waiting: tuple[TokenizedPrompt, ...]
    """At least one."""
    dropped: int
    """Rows that were left out since they are too long."""
    unusable: tuple[Unusable, ...]
    """Rows that were left out because they cannot be used."""

    @cached_property
    def spoken(self) -> bool:
        """Whether the chat template writes any of them; otherwise all are plain text."""
        return any(not isinstance(each.task.prompt, str) for each in self.waiting)

    def lines(self) -> Iterator[str]:
        """For people."""
        maker, lengths = self.preparation.maker, [len(each.tokens) for each in self.waiting]
        referenced = sum(each.task.reference is not None for each in self.waiting)
        yield (
            f"{maker.rows.source}: {len(maker.rows):,} rows ({maker.format.name}), {len(lengths):,} prompts of "
            f"{min(lengths):,} to {max(lengths):,} tokens, {referenced:,} with a reference"
        )
        if self.dropped:
            yield f"  dropped {self.dropped:,} prompts for their length"
        if self.unusable:
            yield f"  {len(self.unusable):,} rows cannot be used and were left out: unusable.jsonl says why"

    def card(self) -> dict[str, object]:
        """As JSON, under the names of `DataReport`."""
        rows = self.preparation.maker.rows
        lengths = [len(each.tokens) for each in self.waiting]
        tokenizer = self.preparation.maker.writer.tokenizer
        return {
            "source": rows.source,
            "format": self.preparation.maker.format.name,
            "rows": len(rows),
            "groups": len(lengths),
            "tokens": sum(lengths),
            "trained_tokens": 0,
            "longest": max(lengths),
            "unusable": len(self.unusable),
            "notes": [line.strip() for line in self.lines()][1:],
            "example": [[str(tokenizer.decode(list(self.waiting[0].tokens))), False]],
        }


def as_task(example: AnyExample) -> Task:
    """What is asked, and the right answer: of a conversation with several turns, the last one.

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
            return Task(before, example.messages[last].content)
    raise DataError(
        given=f"a row of the kind {type(example).__name__.lower()}",
        rule="a prompt to try is a row of prompt and reference, or of a question and its answer",
        remedy="name other data",
    )


def prompts(preparation: DatasetSpec, room: int, *, system: str | None = None, prefix: str = "") -> Prompts:
    """The prompts of all rows.

    Args:
        preparation: rows, template and rules.
        room: tokens that must be left of `preparation.max_length` for the response.
        system: stands before conversations that have no system message of their own; None: nothing does.
        prefix: text with which responses begin; it stands at the end of every prompt.

    Raises:
        DataError: more rows are unusable than allowed, or prompts are too long and the rule is to stop.
    """
    maker, most = preparation.maker, preparation.max_length - room
    faults: list[RowError] = []
    found: list[tuple[int, Task, Rendering]] = []
    write = _PromptWriter(preparation)
    for row in range(len(maker.rows)):
        try:
            example = maker.format.convert(maker.rows[row])
            task = without_beginning(as_task(example))
            task = _named(task if system is None else _under(system, task), maker.rows, row)
            rendering = write(task, example, prefix)
            found.append((row, replace(task, generation_prefix=rendering.generation_prefix), rendering))
        except DataError as error:
            faults.append(RowError(row, error.given, error.rule, error.remedy))
    samples = tokenize([rendering for _, _, rendering in found], maker.writer.tokenizer)
    generation_prompt: list[TokenizedPrompt] = []
    for (row, task, _), sample in zip(found, samples, strict=True):
        if isinstance(sample, DataError):
            faults.append(RowError(row, sample.given, sample.rule, sample.remedy))
        elif not len(sample.tokens):
            faults.append(
                RowError(row, "the prompt is empty", "a response continues something", "give the row a prompt")
            )
        else:
            generation_prompt.append(TokenizedPrompt(row, tuple(int(token) for token in sample.tokens), task))
    if not generation_prompt or len(faults) > preparation.max_invalid_fraction * len(maker.rows):
        raise unusable_error(maker.rows, sorted(faults, key=lambda fault: fault.row), preparation.max_invalid_fraction)
    kept = tuple(each for each in generation_prompt if len(each.tokens) <= most)
    _require_short(preparation, generation_prompt, kept, room)
    unusable = tuple(Unusable(maker.rows.where(each.row), each.given, each.rule, each.remedy) for each in faults)
    return Prompts(preparation, kept, len(generation_prompt) - len(kept), unusable)


def _named(task: Task, rows: Rows, row: int) -> Task:
    """The task with the name of its source as its column ``source``, unless it has one, where sources are mixed or
    named: by that, rewards know what is theirs (``where: {source: …}``)."""
    if not isinstance(rows, Mixture | NamedRows):
        return task
    return replace(task, extra={"source": rows.source_of(row), **task.extra})


def _under(system: str, task: Task) -> Task:
    """The task with a system message, unless it has one."""
    if isinstance(task.prompt, str):
        raise DataError(
            given="a system prompt, and the row's prompt is plain text",
            rule="a system prompt stands in a conversation; plain text is continued as it is",
            remedy="remove system, or call the column question: then it is a user's message",
        )
    if task.prompt[0].role in ("system", "developer"):
        return task
    return replace(task, prompt=(Message("system", system), *task.prompt))


class _PromptWriter:
    """Tasks as the text that the model continues."""

    def __init__(self, preparation: DatasetSpec) -> None:
        self.writer = preparation.maker.writer
        self.in_template = SpecialTokenText.of(self.writer.tokenizer, self.writer.template)
        self.in_text = SpecialTokenText.of(self.writer.tokenizer, None)

    def __call__(self, task: Task, example: AnyExample, prefix: str) -> Rendering:
        begun = task.generation_prefix + prefix
        if isinstance(task.prompt, str):
            rendering = generation_prompt_text(task.prompt + begun, self.writer.tokenizer, self.in_text)
            return replace(rendering, generation_prefix=begun)
        tools = example.tools if isinstance(example, Conversation) else ()
        rendering = generation_prompt(Conversation(task.prompt, tools), self.writer, self.in_template)
        whole = joined(rendering.generation_prefix, begun)
        text = rendering.text.removesuffix(rendering.generation_prefix) + whole
        start = len(text) - len(begun)
        ordinary = ((start + a, start + b) for a, b in self.in_template.places(begun))
        return replace(rendering, text=text, ordinary=(*rendering.ordinary, *ordinary), generation_prefix=whole)


def _require_short(
    preparation: DatasetSpec, found: list[TokenizedPrompt], kept: tuple[TokenizedPrompt, ...], room: int
) -> None:
    if kept and (len(kept) == len(found) or preparation.overlong == "drop"):
        return
    longest = max(found, key=lambda each: len(each.tokens))
    raise DataError(
        given=f"{preparation.maker.rows.where(longest.row)}: a prompt of {len(longest.tokens):,} tokens; "
        f"{len(found) - len(kept):,} of {len(found):,} prompts are too long",
        rule=f"prompt and response (max_new_tokens: {room:,}) fill at most max_length: {preparation.max_length:,}",
        remedy="raise max_length, lower max_new_tokens, or leave such rows out with overlong=drop",
    )
