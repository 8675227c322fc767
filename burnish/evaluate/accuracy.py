"""How many questions of a data set a model answers as the data does. Stands over the sampler and `match`.

Questions come from the same rows, template and tokenisation as training: what the model is asked is the prompt that it
would be trained on. Of a conversation with several turns only the last is asked, after all turns before it as the data
has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedTokenizerBase

from burnish.data.generation_prefix import opened_by_template, opened_by_text
from burnish.data.records import AnyExample, Completion, Conversation
from burnish.data.sample_builder import SampleBuilder
from burnish.errors import DataError
from burnish.evaluate.detokenize import whole_text
from burnish.sampling.base import Prompt
from burnish.sampling.open import InProcess
from burnish.sampling.params import SamplingParams
from burnish.tasks.match import MatchRule, matches
from burnish.tasks.normalize import in_thought, without_thoughts
from burnish.types import Response


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what the data answers."""

    prompt: tuple[int, ...]
    """Token ids, at least one."""
    asked: str
    """The prompt as text, with the template's marks."""
    said: str
    """The same for people: the text of a single message; of several, a line of role and text each."""
    reference: str
    """The right answer."""
    row: int
    """Index of the row that it comes from."""
    generation_prefix: str = ""
    """The end of the prompt's text that belongs to the answer: a thought that the template opens."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A question with the model's answer."""

    prompt: str
    """What was asked, with the template's marks."""
    response: str
    """The response from its beginning, also where the template wrote that, without control tokens."""
    reference: str
    """What the data answers."""
    correct: bool
    ended: bool
    """Whether the model ended its answer itself; False: it was cut."""
    row: int
    """Index of the row."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many answers are right."""

    correct: int
    total: int
    """Questions asked; at least one."""
    samples: tuple[Sampled, ...]
    """Every question with its answer, in the order of the rows."""

    @property
    def share(self) -> float:
        """Right answers / questions."""
        return self.correct / self.total


def questions(maker: SampleBuilder, rows: Sequence[int] | None = None) -> tuple[Question, ...]:
    """The questions of rows: the prompt of each one's last answer. Rows of plain documents and of bare tool calls ask
    nothing, and neither do rows that cannot be used.

    Args:
        maker: rows, format, template and rule for control text, as in training.
        rows: indices of the rows to ask; None: all.
    """
    # Only the last turn is asked, however many are learned.
    asking = replace(maker, train_on="last", turns_within=None)
    found: list[Question] = []
    for row in range(len(maker.rows)) if rows is None else rows:
        try:
            example = maker.format.convert(maker.rows[row])
        except DataError:  # a row that cannot be used, which `prepare` allowed or refused
            continue
        made, reference = asking.make(row, row + 1), _reference(example)
        if reference is None or not len(made.lengths):
            continue
        prompt = tuple(int(token) for token in made.tokens[: int(made.prompt_lengths[0])])
        shown = str(maker.writer.tokenizer.decode(list(prompt)))
        found.append(Question(prompt, shown, _said(example), reference, row, _generation_prefix(example, maker)))
    return tuple(found)


def require_comparable(rows: Sequence[Question], match: MatchRule, key: str) -> None:
    """Refuses a rule by which no answer could be right; `key` is the setting that names it.

    Raises:
        DataError: numbers are to be compared, and no right answer has one.
    """
    if match == "number" and not any(char.isdigit() for question in rows for char in question.reference):
        raise DataError(
            given=f"{key}=number, and no answer of the data has a number",
            rule=f"{key}=number compares the last number of the answer with that of the data",
            remedy=f"use {key}=exact or {key}=contains",
        )


def accuracy(
    sampler: InProcess,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Question],
    *,
    match: MatchRule = "exact",
    params: SamplingParams,
) -> Accuracy:
    """Asks the questions and compares.

    Args:
        sampler: writes the answers.
        tokenizer: of its model.
        rows: as `questions` gives them, at least one, of different rows. Prompts that fill all positions are wrong.
        match: when an answer is right.
        params: how answers are written.
    """
    assert rows, "there is something to ask"
    asked = [question for question in rows if len(question.prompt) < sampler.most_positions]
    prompts = [Prompt(torch.tensor(question.prompt), question.row) for question in asked]
    groups = sampler.sample(prompts, 1, params)
    written = {question.row: group.responses[0] for question, group in zip(asked, groups, strict=True)}
    samples = []
    for question in rows:
        answer = written.get(question.row)
        said = "" if answer is None else _whole(question, answer, tokenizer, sampler)
        right = answer is not None and _is_right(said, question.reference, match)
        ended = answer is not None and answer.finish == "end"
        samples.append(Sampled(question.asked, said, question.reference, right, ended, question.row))
    return Accuracy(sum(sample.correct for sample in samples), len(samples), tuple(samples))


def _whole(question: Question, answer: Response, tokenizer: PreTrainedTokenizerBase, sampler: InProcess) -> str:
    return whole_text(tokenizer, question.prompt, answer, sampler.end_tokens, question.generation_prefix)


def _is_right(said: str, reference: str, match: MatchRule) -> bool:
    """Whether the answer is the reference's; thoughts are of neither, and a thought that does not end has no answer."""
    return not in_thought(said) and matches(without_thoughts(said), without_thoughts(reference), match)


def _generation_prefix(example: AnyExample, maker: SampleBuilder) -> str:
    """What the prompt of the last answer has of the answer."""
    if not isinstance(example, Conversation):
        return opened_by_text(example.prompt) if isinstance(example, Completion) else ""
    asked = replace(example, messages=example.messages[: example.turns[-1]])
    text = maker.writer.write(asked, len(asked.messages), to_be_answered=True)
    return opened_by_template(asked, maker.writer, text)


def _said(example: AnyExample) -> str:
    """What stands before the last answer."""
    if isinstance(example, Completion):
        return example.prompt
    messages = example.messages[: example.turns[-1]] if isinstance(example, Conversation) else ()
    if len(messages) == 1:
        return messages[0].content or ""
    return "\n".join(f"{message.role}: {message.content or ''}" for message in messages)


def _reference(example: AnyExample) -> str | None:
    """The text of the last answer; None: there is none."""
    if isinstance(example, Conversation):
        return example.messages[example.turns[-1]].content if example.turns else None
    return example.completion if isinstance(example, Completion) else None
