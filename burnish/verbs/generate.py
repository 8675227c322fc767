"""Generation of responses to the prompts of a dataset (`burnish generate`).

The prompts and the samplers are those of the stage `rl`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from torch import Tensor

from burnish.data.prompts import Prompts, TokenizedPrompt
from burnish.evaluate.detokenize import response_decoder
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.integrity import require_finite
from burnish.model.open import LoadedModel, open_model
from burnish.model.policy import Model
from burnish.model.stop_tokens import stop_tokens_of
from burnish.rewards.response_views import Decode, response_views
from burnish.runs.named_model import resolve_model
from burnish.sampling.base import Sampler, SampleRequest, StreamListener
from burnish.sampling.open import open_sampler
from burnish.settings.numbers import Positive
from burnish.stages.determinism import out_of_memory_explained
from burnish.types import Group, Response
from burnish.verbs.prompts import PromptSettings
from burnish.verbs.response_file import ResponseFile, refuse_existing, response_file
from burnish.watch.counter import count_on_terminal


class GenerateSettings(PromptSettings):
    """Settings of `burnish generate`, given as key=value."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Sampling temperature: divides the logits; 0: greedy decoding."""
    responses_per_prompt: Positive = 1
    """Number of responses to each prompt."""
    system: str | None = None
    """System prompt of conversations without one; null: none."""
    prefix: str = ""
    """Text at the beginning of every response."""
    logprobs: bool = False
    """Also writes token ids and their log-probabilities."""

    @model_validator(mode="after")
    def _responses_differ(self) -> GenerateSettings:
        if self.temperature == 0 and self.responses_per_prompt > 1:
            raise ValueError(
                f"temperature: 0 generates the same response {self.responses_per_prompt} times; set "
                "responses_per_prompt: 1, or a temperature"
            )
        return self


@dataclass(frozen=True, eq=False, slots=True)
class GenerateResult:
    """Result of a generation."""

    model: str
    data: str
    output: Path | None
    """The file; None: no file was written."""
    rows: int
    """Number of rows read."""
    left_out: int
    """Number of rows that are too long or invalid."""
    answers: Sequence[dict[str, Any]]
    """A line of the file for each prompt; see docs/verbs.md."""
    resumed: int
    """Number of prompts that an earlier process finished."""
    notes: tuple[str, ...] = ()
    """Lines for the user."""

    def line(self) -> str:
        """Line with the numbers of prompts and responses."""
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
    """Generates responses to prompts.

    Args:
        model: a hub name, or a folder of a model, an adapter or a run.
        settings: the prompts, and sampling.
        output: a JSONL file, written as responses come; the same call resumes. None: results are only returned.
        base: base model of an adapter, if it is not at the path in the adapter's config.

    Raises:
        UserError: a mistake that the user can correct, with the remedy.
    """
    if output is not None:
        refuse_existing(output)
    opened = open_model(resolve_model(model), base=base, dtype=settings.dtype)
    reader = settings.reader(opened)
    prompts = settings.prompts(reader, system=settings.system, prefix=settings.prefix)
    ends = stop_tokens_of(opened.causal_lm.generation_config, opened.tokenizer, reader.template)
    with out_of_memory_explained(reader.tokens_per_microbatch):
        sampler, notes = open_sampler(opened, ends, reader.max_length)
        file: AbstractContextManager[ResponseFile | _Memory] = nullcontext(_Memory())
        if output is not None:
            file = response_file(output, _identity(opened, settings, prompts))
        with file as answers:
            resumed = len(answers.lines)
            lines = _Lines(model, response_decoder(opened.tokenizer, ends), settings.logprobs)
            _write(sampler, prompts.tokenized[resumed:], settings, lambda *each: answers.append(lines(*each)), resumed)
    rows = len(prompts.preparation.builder.rows)
    return GenerateResult(
        model,
        settings.data,
        output,
        rows,
        rows - len(prompts.tokenized),
        answers.lines,
        resumed,
        (*opened.notes, *notes, *prompts.lines()),
    )


@dataclass(eq=False, slots=True)
class _Memory:
    """Lines in memory, in place of a `ResponseFile` where no output file is named."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def append(self, line: dict[str, Any]) -> None:
        self.lines.append(line)


def _identity(opened: LoadedModel, settings: GenerateSettings, prompts: Prompts) -> str:
    """sha256 of everything that determines the responses."""
    weights = whole_fingerprint(Model(opened.model, opened.tokenizer))
    parts = [weights, prompts.preparation.identity, settings.model_dump_json(exclude={"tokens_per_microbatch"})]
    return hashlib.sha256("\n".join(["burnish answers 1", *parts]).encode()).hexdigest()


def _write(
    sampler: Sampler,
    prompts: Sequence[TokenizedPrompt],
    settings: GenerateSettings,
    on_group: Callable[[TokenizedPrompt, Group], None],
    before: int,
) -> None:
    """Samples responses to the prompts, and calls `on_group` with each prompt and its group, in their order."""
    requests = [SampleRequest(prompt.tokens, prompt.row, prompt.media) for prompt in prompts]
    count = count_on_terminal("prompts answered")

    def on_index(index: int, group: Group) -> None:
        on_group(prompts[index], group)
        count(before + index + 1, before + len(prompts))

    sampler.sample(requests, settings.responses_per_prompt, settings.params, listener=_InOrder(on_index))


class _InOrder(StreamListener):
    """Passes groups on in the order of their prompts, as soon as all before them are finished."""

    def __init__(self, on_group: Callable[[int, Group], None]) -> None:
        self._on_group, self._ready, self._next = on_group, dict[int, Group](), 0

    def group(self, place: int, group: Group) -> None:
        self._ready[place] = group
        while self._next in self._ready:
            self._on_group(self._next, self._ready.pop(self._next))
            self._next += 1


@dataclass(frozen=True, slots=True)
class _Lines:
    """Converts groups to lines of the file."""

    model: str
    """Name of the model, for messages."""
    decode: Decode
    logprobs: bool

    def __call__(self, prompt: TokenizedPrompt, group: Group) -> dict[str, Any]:
        for response in group.responses:
            require_finite("log-probability of a token", self.model, _logprobs(response))
        task, answers = prompt.task, response_views(prompt.task, group, self.decode)
        content = answers[0].prompt
        line: dict[str, Any] = {"row": prompt.row, "prompt": content if isinstance(content, str) else list(content)}
        line |= {"responses": [answer.text for answer in answers]}
        line |= {"finish": [response.finish for response in group.responses]}
        if task.reference is not None:
            line["reference"] = task.reference
        if task.extra:
            line["extra"] = dict(task.extra)
        if self.logprobs:
            line["prompt_ids"] = group.prompt.tolist()
            line["token_ids"] = [response.tokens.tolist() for response in group.responses]
            line["logprobs"] = [_rounded(response) for response in group.responses]
        return line


def _rounded(response: Response) -> list[float]:
    """Log-probabilities, nats, to six decimal places."""
    return [round(logprob, 6) for logprob in _logprobs(response).tolist()]


def _logprobs(response: Response) -> Tensor:
    """[T], nats."""
    assert response.sampler_logprobs is not None, "sampled responses have log-probabilities"
    return response.sampler_logprobs
