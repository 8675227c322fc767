"""Teacher with another tokenizer: it reads the text of a response in its own tokens, from its own generation prompt.

Runs of tokens that span the same bytes are compared (`data.byte_groups`). Either the log-probabilities of the runs fill
`teacher_logprobs` and `byte_groups`, or, for sorted probabilities (ULD), the teacher's hidden states are given to the
first token of each run, where both models predict from the same text; the student's other tokens are then not trained.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from burnish.data.byte_groups import ByteGroups, byte_groups, group_sums, starts, token_bytes
from burnish.errors import DataError
from burnish.roles.filler import task_of
from burnish.teachers.local import LocalTeacher
from burnish.teachers.prompts import PromptRenderer
from burnish.types import Group, Response


@dataclass(frozen=True, eq=False, slots=True)
class TwoTokenizers:
    """Tokenizers of student and teacher with the tokens that end their responses."""

    student: PreTrainedTokenizerBase
    teacher: PreTrainedTokenizerBase
    student_ends: Collection[int]
    teacher_end: int
    """What the teacher writes at the end of a turn."""

    def read(self, response: Response) -> tuple[list[int], ByteGroups]:
        """The teacher's tokens for the text of a response, at least one, and the runs that span the same bytes."""
        written = response.tokens.tolist()
        ended = written[-1] in self.student_ends
        content = written[:-1] if ended else written
        student = token_bytes(self.student, content, begins=False)
        text = b"".join(part for part in student if part is not None).decode("utf-8", "replace")
        tokens = self.teacher.encode(text, add_special_tokens=False, split_special_tokens=True)
        teacher = token_bytes(self.teacher, tokens)
        if ended or not tokens:
            tokens, teacher = [*tokens, self.teacher_end], [*teacher, None]
        groups = byte_groups([*student, *([None] * ended)], teacher, ends=ended)
        return tokens, groups


@dataclass(frozen=True, eq=False, slots=True)
class OtherTokenizer:
    """Fills the streams of a teacher with another tokenizer (see `roles.filler.Filler`)."""

    teacher: LocalTeacher
    """Gives logprobs, or states for sorted probabilities."""
    renderer: PromptRenderer
    tokenizers: TwoTokenizers

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        read = [[self.tokenizers.read(response) for response in group.responses] for group in groups]
        pairs = zip(groups, read, strict=True)
        seen = [self._seen(group, [tokens for tokens, _ in of_group]) for group, of_group in pairs]
        streams = self.teacher.streams(seen)
        filled = []
        for group, of_group, parts in zip(groups, read, streams, strict=True):
            each = zip(group.responses, of_group, parts, strict=True)
            responses = [self._filled(response, runs, part) for response, (_, runs), part in each]
            filled.append(replace(group, responses=tuple(responses)))
        return filled

    def _seen(self, group: Group, responses: Sequence[Sequence[int]]) -> Group:
        """The group as the teacher reads it."""
        prompt, limit = self.renderer.prompt(task_of(group)), self.renderer.limit
        longest = len(prompt) + max(map(len, responses))
        if limit is not None and longest > limit:
            raise DataError(
                given=f"a prompt with a response of {longest:,} of the teacher's tokens",
                rule=f"they fill at most the {limit:,} positions of the teacher",
                remedy="lower max_new_tokens",
            )
        tokens = [torch.tensor(response, dtype=torch.int64) for response in responses]
        made = (Response(tokens=each, trainable=torch.ones(len(each), dtype=torch.bool)) for each in tokens)
        return Group(prompt=prompt, responses=tuple(made))

    def _filled(self, response: Response, runs: ByteGroups, streams: dict[str, Tensor]) -> Response:
        if self.teacher.signal.form == "states":
            return _at_starts(response, runs, streams["teacher_states"])
        own = torch.tensor(runs.student, dtype=torch.int64)
        totals = group_sums(streams["teacher_logprobs"], runs.teacher, runs.count)
        logprobs = torch.zeros(len(own), dtype=totals.dtype)
        last = torch.ones(len(own), dtype=torch.bool)
        last[:-1] = own[:-1] != own[1:]
        ends = last & (own >= 0)
        logprobs[ends] = totals[own[ends]]
        return replace(response, teacher_logprobs=logprobs, byte_groups=own + 1)


def _at_starts(response: Response, runs: ByteGroups, states: Tensor) -> Response:
    """The response with the teacher's states at the first token of each run, which alone are trained."""
    own, theirs = starts(runs.student), starts(runs.teacher)
    spread = states.new_zeros((len(response.tokens), states.shape[1]))
    trained = torch.zeros(len(response.tokens), dtype=torch.bool)
    spread[own], trained[own] = states[theirs], True
    changed: dict[str, Any] = {"teacher_states": spread, "trainable": response.trainable & trained}
    return replace(response, **changed)
