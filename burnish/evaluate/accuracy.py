"""Generation accuracy: the share of prompts of a data set that a model answers as the data does.

Prompts come from the same rows, template and tokenization as training. A conversation with several turns gives one
prompt: all turns before the last answer, as in the data.
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
from burnish.rewards.match import MatchRule, matches
from burnish.rewards.normalize import in_thought, without_thoughts
from burnish.sampling.base import Prompt
from burnish.sampling.open import ModelSampler
from burnish.sampling.params import SamplingParams
from burnish.types import Response


@dataclass(frozen=True, slots=True)
class Question:
    """Prompt with its reference answer."""

    prompt: tuple[int, ...]
    """Token ids, at least one."""
    prompt_text: str
    """The prompt as text, with the template's tokens."""
    message_text: str
    """Readable prompt: the text of a single message; of several, a line of role and text each."""
    reference: str
    """The right answer."""
    row: int
    """Index of its row."""
    generation_prefix: str = ""
    """End of the prompt's text that belongs to the answer: a thought that the template opens."""


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """Prompt with the model's answer."""

    prompt: str
    """Prompt text with the template's tokens."""
    response: str
    """The response from its beginning, generation prefix included, without control tokens."""
    reference: str
    """The right answer."""
    correct: bool
    ended: bool
    """Whether the answer has an end token; False: it was truncated."""
    row: int
    """Index of the row."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Number and share of right answers."""

    correct: int
    total: int
    """Number of prompts, at least one."""
    samples: tuple[AnsweredQuestion, ...]
    """Every prompt with its answer, in the order of the rows."""

    @property
    def share(self) -> float:
        """Right answers / prompts."""
        return self.correct / self.total


def questions(builder: SampleBuilder, rows: Sequence[int] | None = None) -> tuple[Question, ...]:
    """Prompts of rows, each with the row's last answer as reference. Rows of plain documents, rows whose last answer is
    only a tool call, and unusable rows give none.

    Args:
        maker: rows, format, template and rule for control text, as in training.
        rows: indices of the rows; None: all.
    """
    # Only the last turn is asked, however many are trained.
    last_turn = replace(builder, train_on="last", turns_within=None)
    result: list[Question] = []
    for row in range(len(builder.rows)) if rows is None else rows:
        try:
            example = builder.format.convert(builder.rows[row])
        except DataError:  # an unusable row, which opening the data allowed or refused
            continue
        samples, reference = last_turn.make(row, row + 1), _reference(example)
        if reference is None or not len(samples.lengths):
            continue
        prompt = tuple(int(token) for token in samples.tokens[: int(samples.prompt_lengths[0])])
        text = str(builder.writer.tokenizer.decode(list(prompt)))
        prefix = _generation_prefix(example, builder)
        result.append(Question(prompt, text, _message_text(example), reference, row, prefix))
    return tuple(result)


def require_comparable(rows: Sequence[Question], match: MatchRule, key: str) -> None:
    """Refuses a match rule by which no answer could be right; `key` is the name of its setting.

    Raises:
        DataError: the rule compares numbers, and no reference has one.
    """
    if match == "number" and not any(char.isdigit() for question in rows for char in question.reference):
        raise DataError(
            given=f"{key}=number, and no answer of the data has a number",
            rule=f"{key}=number compares the last number of the answer with that of the data",
            remedy=f"use {key}=exact or {key}=contains",
        )


def accuracy(
    sampler: ModelSampler,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Question],
    *,
    match: MatchRule = "exact",
    params: SamplingParams,
) -> Accuracy:
    """Samples an answer to each prompt and compares it with the reference.

    Args:
        sampler: samples the answers.
        tokenizer: of the sampler's model.
        rows: from `questions`, at least one, of different rows. Prompts that fill all positions count as wrong.
        match: rule by which an answer is right.
        params: of sampling.
    """
    assert rows, "accuracy is of at least one prompt"
    answerable = [question for question in rows if len(question.prompt) < sampler.max_positions]
    prompts = [Prompt(torch.tensor(question.prompt), question.row) for question in answerable]
    groups = sampler.sample(prompts, 1, params)
    responses = {question.row: group.responses[0] for question, group in zip(answerable, groups, strict=True)}
    samples = []
    for question in rows:
        response = responses.get(question.row)
        text = "" if response is None else _whole(question, response, tokenizer, sampler)
        correct = response is not None and _is_correct(text, question.reference, match)
        ended = response is not None and response.finish == "end"
        samples.append(AnsweredQuestion(question.prompt_text, text, question.reference, correct, ended, question.row))
    return Accuracy(sum(sample.correct for sample in samples), len(samples), tuple(samples))


def _whole(question: Question, response: Response, tokenizer: PreTrainedTokenizerBase, sampler: ModelSampler) -> str:
    return whole_text(tokenizer, question.prompt, response, sampler.end_tokens, question.generation_prefix)


def _is_correct(response: str, reference: str, match: MatchRule) -> bool:
    """Whether the answer matches the reference, thoughts removed from both; an open thought has no answer."""
    return not in_thought(response) and matches(without_thoughts(response), without_thoughts(reference), match)


def _generation_prefix(example: AnyExample, builder: SampleBuilder) -> str:
    """Part of the prompt of the last answer that belongs to the answer."""
    if not isinstance(example, Conversation):
        return opened_by_text(example.prompt) if isinstance(example, Completion) else ""
    prompt = replace(example, messages=example.messages[: example.turns[-1]])
    text = builder.writer.write(prompt, len(prompt.messages), add_generation_prompt=True)
    return opened_by_template(prompt, builder.writer, text)


def _message_text(example: AnyExample) -> str:
    """Readable text before the last answer."""
    if isinstance(example, Completion):
        return example.prompt
    messages = example.messages[: example.turns[-1]] if isinstance(example, Conversation) else ()
    if len(messages) == 1:
        return messages[0].text or ""
    return "\n".join(f"{message.role}: {message.text or ''}" for message in messages)


def _reference(example: AnyExample) -> str | None:
    """Text of the last answer; None: there is none."""
    if isinstance(example, Conversation):
        return example.messages[example.turns[-1]].text if example.turns else None
    return example.completion if isinstance(example, Completion) else None
