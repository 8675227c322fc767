"""Generation accuracy: the share of prompts of a data set that a model answers as the data does.

Prompts come from the same rows, template and tokenization as training. A conversation with several turns gives one
prompt: all turns before the last answer, as in the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from transformers import PreTrainedTokenizerBase

from burnish.data.generation_prefix import opened_by_template, opened_by_text
from burnish.data.prompts import TokenizedPrompt, as_task
from burnish.data.records import AnyExample, Completion, Conversation, Task
from burnish.data.sample_builder import SampleBuilder
from burnish.errors import DataError
from burnish.evaluate.detokenize import whole_text
from burnish.rewards.extract import final_number
from burnish.rewards.match import MatchRule, matches
from burnish.sampling.base import AnsweredPrompts, Sampler, SampleRequest
from burnish.sampling.params import SamplingParams
from burnish.watch.parts import OnPart, no_report


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """Prompt with the model's answer."""

    prompt: str
    """Prompt text with the template's tokens."""
    message_text: str
    """Readable prompt: the text of a single message; of several, a line of role and text each."""
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
    samples: tuple[AnsweredPrompt, ...]
    """Every prompt with its answer, in the order of the rows."""

    @classmethod
    def of(cls, samples: Sequence[AnsweredPrompt]) -> Self:
        """The accuracy of these answers, at least one."""
        assert samples, "accuracy is of at least one prompt"
        return cls(sum(sample.correct for sample in samples), len(samples), tuple(samples))

    @property
    def share(self) -> float:
        """Right answers / prompts."""
        return self.correct / self.total


def answerable_prompts(builder: SampleBuilder, rows: Sequence[int] | None = None) -> tuple[TokenizedPrompt, ...]:
    """Prompts of rows, each with the row's last answer as reference. Rows of plain documents, rows whose last answer is
    only a tool call, and unusable rows give none.

    Args:
        builder: rows, format, template and rule for control text, as in training.
        rows: indices of the rows; None: all.
    """
    # Only the last turn is asked, however many are trained.
    last_turn = replace(builder, train_on="last", turns_within=None)
    result: list[TokenizedPrompt] = []
    for row in range(len(builder.rows)) if rows is None else rows:
        try:
            example = builder.format.convert(builder.rows[row])
        except DataError:  # an unusable row, which opening the data allowed or refused
            continue
        samples = last_turn.make(row, row + 1)
        if not _has_answer(example) or not len(samples.lengths):
            continue
        length = int(samples.prompt_lengths[0])
        tokens = torch.tensor(samples.tokens[:length], dtype=torch.int64)
        media = tuple(medium for medium in samples.media(0) if medium.span[1] <= length)
        task = replace(as_task(example), generation_prefix=_generation_prefix(example, builder))
        result.append(TokenizedPrompt(row, tokens, task, media))
    return tuple(result)


def require_comparable(prompts: Sequence[TokenizedPrompt], match: MatchRule, key: str) -> None:
    """Refuses a match rule by which no answer could be right; `key` is the name of its setting.

    Raises:
        DataError: the rule compares numbers, and no reference has one.
    """
    if match == "number" and all(final_number(str(prompt.task.reference)) is None for prompt in prompts):
        raise DataError(
            given=f"{key}=number, and no answer of the data has a number",
            rule=f"{key}=number compares the final number of the answer with that of the data",
            remedy=f"use {key}=exact or {key}=contains",
        )


def sample_answers(
    sampler: Sampler,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TokenizedPrompt],
    *,
    match: MatchRule = "exact",
    params: SamplingParams,
    on_part: OnPart = no_report,
) -> list[AnsweredPrompt]:
    """Samples an answer to each prompt and compares it with the reference.

    Args:
        sampler: samples the answers, with the weights that were published to it.
        tokenizer: of the sampler's model.
        prompts: from `answerable_prompts`, of different rows. Those that fill all positions count as wrong.
        match: rule by which an answer is right.
        params: of sampling.
        on_part: is told how many prompts are answered.
    """
    possible = [prompt for prompt in prompts if len(prompt.tokens) < sampler.max_positions]
    requests = [SampleRequest(prompt.tokens, prompt.row, prompt.media) for prompt in possible]
    groups = sampler.sample(requests, 1, params, listener=AnsweredPrompts(len(requests), on_part))
    responses = {prompt.row: group.responses[0] for prompt, group in zip(possible, groups, strict=True)}
    samples = []
    for prompt in prompts:
        response, tokens, reference = responses.get(prompt.row), prompt.tokens.tolist(), str(prompt.task.reference)
        text = ""
        if response is not None:
            text = whole_text(tokenizer, tokens, response, sampler.end_tokens, prompt.task.generation_prefix)
        samples.append(
            AnsweredPrompt(
                prompt=str(tokenizer.decode(tokens)),
                message_text=_message_text(prompt.task),
                response=text,
                reference=reference,
                correct=response is not None and matches(text, reference, match),
                ended=response is not None and response.finish == "end",
                row=prompt.row,
            )
        )
    return samples


def _generation_prefix(example: AnyExample, builder: SampleBuilder) -> str:
    """Part of the prompt of the last answer that belongs to the answer."""
    if not isinstance(example, Conversation):
        return opened_by_text(example.prompt) if isinstance(example, Completion) else ""
    prompt = replace(example, messages=example.messages[: example.turns[-1]])
    text = builder.writer.write(prompt, len(prompt.messages), add_generation_prompt=True)
    return opened_by_template(prompt, builder.writer, text)


def _message_text(task: Task) -> str:
    """Readable text before the last answer."""
    if isinstance(task.prompt, str):
        return task.prompt
    if len(task.prompt) == 1:
        return task.prompt[0].text or ""
    return "\n".join(f"{message.role}: {message.text or ''}" for message in task.prompt)


def _has_answer(example: AnyExample) -> bool:
    """Whether the row ends with an answer that is text."""
    if isinstance(example, Conversation):
        return bool(example.turns) and example.messages[example.turns[-1]].text is not None
    return isinstance(example, Completion)
