"""Answering the prompts of a file: what a user may set, and how the pieces are put together. Behind `burnish generate`.

Beside `pass_evaluation`, which judges its answers. The prompts and the samplers are those of the stage `rl`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator

from burnish.data.prompts import Prompts, TokenizedPrompt
from burnish.evaluate.detokenize import response_decoder
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.open import LoadedModel, open_model
from burnish.model.policy import Model
from burnish.model.stop_tokens import stop_tokens_of
from burnish.sampling.base import Prompt, StreamListener
from burnish.sampling.open import InProcess, open_sampler
from burnish.settings.numbers import Positive
from burnish.stages.determinism import out_of_memory_explained
from burnish.tasks.response_views import Decode, response_views
from burnish.types import Group, Response
from burnish.verbs.prompts import PromptSettings
from burnish.verbs.response_file import ResponseFile, refuse_existing, response_file
from burnish.watch.counter import count_on_terminal


class GenerateSettings(PromptSettings):
    """What `burnish generate` takes as key=value."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Divisor of the logits; 0: always the likeliest token."""
    responses_per_prompt: Positive = 1
    """Responses to each prompt."""
    system: str | None = None
    """A system prompt, for conversations that have none of their own; null: none."""
    prefix: str = ""
    """Text with which every response begins."""
    logprobs: bool = False
    """Whether token ids and their log-probabilities are written too."""

    @model_validator(mode="after")
    def _responses_differ(self) -> GenerateSettings:
        if self.temperature == 0 and self.responses_per_prompt > 1:
            raise ValueError(
                f"temperature: 0 writes the same response {self.responses_per_prompt} times; set "
                "responses_per_prompt: 1, or a temperature"
            )
        return self


@dataclass(frozen=True, eq=False, slots=True)
class GenerateResult:
    """What was written."""

    model: str
    data: str
    output: Path | None
    """The file; None: nothing was written to one."""
    rows: int
    """Rows read."""
    left_out: int
    """Rows that are too long or cannot be used."""
    answers: Sequence[dict[str, Any]]
    """A line of the file for each prompt; see docs/verbs.md."""
    resumed: int
    """Prompts that an earlier process had answered."""
    notes: tuple[str, ...] = ()
    """For people."""

    def line(self) -> str:
        """For people."""
        ended = [finish for answer in self.answers for finish in answer["finish"]]
        left_out = f" ({self.left_out:,} rows left out)" if self.left_out else ""
        before = f", {self.resumed:,} of them before" if self.resumed else ""
        cut = ended.count("length")
        return f"{len(self.answers):,} prompts{left_out} with {len(ended):,} responses{before}" + (
            f"; {cut:,} did not end within max_new_tokens" if cut else ""
        )


def generate(
    model: str, settings: GenerateSettings, *, output: Path | None = None, base: str | None = None
) -> GenerateResult:
    """Answers prompts.

    Args:
        model: a hub name, or a folder: a model's, an adapter's or a run's.
        settings: the prompts, and how responses are written.
        output: a JSONL file, which is written as answers come; the same call goes on with what it wrote before. None:
            answers are only returned.
        base: the adapter's base, where it is no longer where the adapter remembers it.

    Raises:
        UserError: anything that the user can mend, with the remedy.
    """
    if output is not None:
        refuse_existing(output)
    opened = open_model(model, base=base, dtype=settings.dtype)
    reader = settings.reader(opened)
    found = settings.prompts(reader, system=settings.system, prefix=settings.prefix)
    ends = stop_tokens_of(opened.causal_lm.generation_config, opened.tokenizer, reader.template)
    with out_of_memory_explained(reader.tokens_per_microbatch):
        sampler, notes = open_sampler(opened, ends, reader.max_length)
        file: AbstractContextManager[ResponseFile | _Memory] = nullcontext(_Memory())
        if output is not None:
            file = response_file(output, _identity(opened, settings, found))
        with file as answers:
            resumed = len(answers.lines)
            lines = _Lines(response_decoder(opened.tokenizer, ends), settings.logprobs)
            _write(sampler, found.waiting[resumed:], settings, lambda *each: answers.append(lines(*each)), resumed)
    rows = len(found.preparation.maker.rows)
    return GenerateResult(
        model,
        settings.data,
        output,
        rows,
        rows - len(found.waiting),
        answers.lines,
        resumed,
        (*opened.notes, *notes, *found.lines()),
    )


@dataclass(eq=False, slots=True)
class _Memory:
    """In the place of a file."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def append(self, line: dict[str, Any]) -> None:
        self.lines.append(line)


def _identity(opened: LoadedModel, settings: GenerateSettings, found: Prompts) -> str:
    """sha256 of all that decides the answers."""
    weights = whole_fingerprint(Model(opened.model, opened.tokenizer))
    parts = [weights, found.preparation.identity, settings.model_dump_json(exclude={"tokens_per_microbatch"})]
    return hashlib.sha256("\n".join(["burnish answers 1", *parts]).encode()).hexdigest()


def _write(
    sampler: InProcess,
    waiting: Sequence[TokenizedPrompt],
    settings: GenerateSettings,
    told: Callable[[TokenizedPrompt, Group], None],
    before: int,
) -> None:
    """Has the prompts answered, and tells each with its group, in their order."""
    asked = [Prompt(torch.tensor(each.tokens), each.row) for each in waiting]
    count = count_on_terminal("prompts answered")

    def tell(place: int, group: Group) -> None:
        told(waiting[place], group)
        count(before + place + 1, before + len(waiting))

    sampler.sample(asked, settings.responses_per_prompt, settings.params, watcher=_InOrder(tell))


class _InOrder(StreamListener):
    """Tells groups in the order of their prompts, as soon as all before them are there."""

    def __init__(self, told: Callable[[int, Group], None]) -> None:
        self._told, self._ready, self._next = told, dict[int, Group](), 0

    def group(self, place: int, group: Group) -> None:
        self._ready[place] = group
        while self._next in self._ready:
            self._told(self._next, self._ready.pop(self._next))
            self._next += 1


@dataclass(frozen=True, slots=True)
class _Lines:
    """Groups as lines of the file."""

    decode: Decode
    logprobs: bool

    def __call__(self, waiting: TokenizedPrompt, group: Group) -> dict[str, Any]:
        task, answers = waiting.task, response_views(waiting.task, group, self.decode)
        prompt = answers[0].prompt
        line: dict[str, Any] = {"row": waiting.row, "prompt": prompt if isinstance(prompt, str) else list(prompt)}
        line |= {"responses": [answer.text for answer in answers]}
        line |= {"finish": [each.finish for each in group.responses]}
        if task.reference is not None:
            line["reference"] = task.reference
        if task.extra:
            line["extra"] = dict(task.extra)
        if self.logprobs:
            line["prompt_ids"] = group.prompt.tolist()
            line["token_ids"] = [each.tokens.tolist() for each in group.responses]
            line["logprobs"] = [_rounded(each) for each in group.responses]
        return line


def _rounded(response: Response) -> list[float]:
    """Log-probabilities, nats, to six places."""
    assert response.sampler_logprobs is not None, "a sampler says them"
    return [round(each, 6) for each in response.sampler_logprobs.tolist()]
