"""Rows become samples, a stretch of rows at a time: all that is needed for it, in one picklable record.

Stands between the steps of one row (`formats`, `rendering`, `tokenize`) and `cache`, which keeps what is made and
spreads the work over processes. Nothing here depends on where, when or in which order stretches are made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray

from burnish.data.formats.format import Format
from burnish.data.records import (
    AnyExample,
    Completion,
    Conversation,
    Document,
    Judged,
    Labelled,
    Ranked,
    Scored,
    Stepped,
)
from burnish.data.rendering import Rendering, complete, document, render, with_labels
from burnish.data.rows import Rows
from burnish.data.settings import Comparison, SpecialTokenRule, TrainOn
from burnish.data.shared_prompt import rated_siblings, share_prompt, shortenings, single_rated
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template import Template
from burnish.data.token_store import PLACE, RowError, TokenStore
from burnish.data.tokenize import Encoder, Sample
from burnish.data.writer import PINNED, Writer
from burnish.errors import DataError

_VERSION = 3
"""Goes up when the same settings give other tokens."""


@dataclass(frozen=True, eq=False)
class SampleBuilder:
    """What decides how rows become samples. Picklable.

    Example: ``SampleBuilder(rows, FORMATS["chat"], Writer(tokenizer, template)).make(0, 512)``.
    """

    rows: Rows
    format: Format
    writer: Writer
    train_on: TrainOn = "assistant"
    special_tokens_in_text: SpecialTokenRule = "text"
    turns_within: int | None = None
    """Conversations longer than this many tokens lose their earliest turns; None: nothing is taken away."""
    comparison: Comparison | None = None
    """What is learned from judged responses; None: rows have none."""

    @cached_property
    def identity(self) -> str:
        """sha256 of all that decides the samples: `content`, and the versions of the libraries that make them."""
        parts = [self.content, transformers.__version__, tokenizers.__version__]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def content(self) -> str:
        """sha256 of what the samples are made of: content of the rows, template, tokenizer, settings."""
        tokenizer = self.writer.tokenizer
        core = tokenizer.backend_tokenizer
        core.no_truncation()
        core.no_padding()
        parts = {
            "version": _VERSION,
            "rows": self.rows.fingerprint,
            "format": [self.format.name, self.format.identity],
            "template": self.writer.template.saved,
            "options": dict(self.writer.options),
            "date": PINNED.isoformat(),
            "tokenizer": [core.to_str(), type(tokenizer).__name__, tokenizer.special_tokens_map],
            "settings": [self.train_on, self.special_tokens_in_text, self.turns_within, self.comparison],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def make(self, start: int, stop: int) -> TokenStore:
        """The samples of rows [start, stop)."""
        faults: list[RowError] = []
        written: list[_Group] = []
        conversations = 0
        for row in range(start, stop):
            try:
                example = self.format.convert(self.rows[row])
                conversations += _is_conversation(example)
                written += self._groups(example, row)
            except DataError as error:
                faults.append(RowError(row, error.given, error.rule, error.remedy))
        made: list[tuple[int, Sample]] = []
        for group, samples in self._encoded(written):
            try:
                made += [(group.row, sample) for sample in _whole(group, samples)]
            except DataError as error:
                faults.append(RowError(group.row, error.given, error.rule, error.remedy))
        if self.turns_within is not None:
            made = list(self._shortened(made, faults))
        return _stretch(made, faults, conversations)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.writer.tokenizer)

    @cached_property
    def _in_template(self) -> SpecialTokenText | None:
        return self._control_text(self.writer.template)

    @cached_property
    def _in_text(self) -> SpecialTokenText | None:
        return self._control_text(None)

    def _control_text(self, template: Template | None) -> SpecialTokenText | None:
        return SpecialTokenText.of(self.writer.tokenizer, template) if self.special_tokens_in_text == "text" else None

    def _groups(self, example: AnyExample, row: int) -> Iterator[_Group]:
        """What is made of a row: every rendering by itself, or the responses to a prompt together.

        Raises:
            DataError: the row cannot be written, or not as one text for each response.
        """
        if not isinstance(example, Judged):
            yield from (_Group(row, (rendering,)) for rendering in self._written(example))
            return
        assert self.comparison is not None, "judged responses come where something is learned from them"
        if isinstance(example, Ranked | Labelled):
            responses = rated_siblings(example, self.comparison)
            renderings = tuple(self._as_one_text(alone) for alone, _ in responses)
            yield _Group(row, renderings, tuple(worth for _, worth in responses))
            return
        rendering = self._as_one_text(single_rated(example, self.comparison))
        if isinstance(example, Stepped):
            rendering = with_labels(rendering, example)
        yield _Group(row, (rendering,), scores=example.scores if isinstance(example, Scored) else None)

    def _as_one_text(self, example: Conversation | Completion) -> Rendering:
        """A response that is judged, with its prompt.

        Raises:
            DataError: it cannot be written, or not as one text.
        """
        found = self._written(example)
        if len(found) != 1:
            raise DataError(
                given="the template rewrites earlier turns of an answer once later ones follow",
                rule="an answer that is compared is one text",
                remedy="learn from its last turn alone (train_on=last), or name another template",
            )
        return found[0]

    def _encoded(self, written: Sequence[_Group]) -> Iterator[tuple[_Group, list[Sample | DataError]]]:
        """Each with its samples; all are tokenised at once."""
        samples = self._encoder.samples([rendering for group in written for rendering in group.renderings])
        at = 0
        for group in written:
            yield group, samples[at : at + len(group.renderings)]
            at += len(group.renderings)

    def _written(self, example: AnyExample) -> Sequence[Rendering]:
        if isinstance(example, Conversation):
            return render(example, self.writer, self.train_on, self._in_template)
        if isinstance(example, Document):
            return (document(example, self.writer.tokenizer, self._in_text),)
        assert isinstance(example, Completion), "an example is a conversation, a completion or a document"
        rendering = complete(example, self.writer.tokenizer, self._in_text)
        return (replace(rendering, everything=self.train_on == "everything"),)

    def _shortened(self, made: list[tuple[int, Sample]], faults: list[RowError]) -> Iterator[tuple[int, Sample]]:
        """The samples, those of rows with a long conversation made again without its earliest turns."""
        assert self.turns_within is not None, "called only with a limit"
        long = {row for row, sample in made if len(sample.tokens) > self.turns_within}
        again: set[int] = set()
        for row, sample in made:
            if row not in long:
                yield row, sample
            elif row not in again:
                again.add(row)
                yield from ((row, shorter) for shorter in self._without_turns(row, faults))

    def _without_turns(self, row: int, faults: list[RowError]) -> Sequence[Sample]:
        """The samples of a conversation with as many of its last turns as fit, its system message kept."""
        example = self.format.convert(self.rows[row])
        for shorter in shortenings(example):
            try:
                groups = self._encoded(list(self._groups(shorter, row)))
                fitting = [sample for group, samples in groups for sample in _usable(group, samples)]
            except DataError:  # a template may refuse what begins there; the next beginning may do
                continue
            if fitting and all(len(sample.tokens) <= (self.turns_within or 0) for sample in fitting):
                return [replace(sample, shortened=True) for sample in fitting]
        limit = self.turns_within
        faults.append(
            RowError(
                row,
                f"longer than {limit} tokens even with its last turn alone",
                f"overlong=drop_turns keeps the system message and the last turn, within max_length {limit}",
                "raise max_length, or delete the row",
            )
        )
        return ()


@dataclass(frozen=True, slots=True)
class _Group:
    """Renderings of a row that belong together."""

    row: int
    renderings: tuple[Rendering, ...]
    worth: tuple[float, ...] | None = None
    """Of each; None: there is one, and it is not compared."""
    scores: tuple[float, ...] | None = None
    """Of the only one; None: it has none."""


def _whole(group: _Group, samples: Sequence[Sample | DataError]) -> Sequence[Sample]:
    """All samples of a group.

    Raises:
        DataError: one of them could not be made, or they do not fit together.
    """
    fitting: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DataError):
            raise sample
        fitting.append(sample if group.scores is None else replace(sample, scores=group.scores))
    return fitting if group.worth is None else share_prompt(fitting, group.worth)


def _usable(group: _Group, samples: Sequence[Sample | DataError]) -> Sequence[Sample]:
    """As `_whole`, but a rendering that stands alone may lack its sample."""
    rated_siblings = group.worth or group.scores
    return _whole(group, samples if rated_siblings else [each for each in samples if isinstance(each, Sample)])


def _is_conversation(example: AnyExample) -> bool:
    """Whether the chat template writes it."""
    if isinstance(example, Judged):
        return isinstance(example.prompt, tuple)
    return isinstance(example, Conversation)


def _stretch(made: Sequence[tuple[int, Sample]], faults: Sequence[RowError], conversations: int) -> TokenStore:
    samples = [sample for _, sample in made]
    return TokenStore(
        tokens=np.concatenate([np.empty(0, np.int32), *(sample.tokens for sample in samples)]),
        trainable=np.concatenate([np.empty(0, np.bool_), *(sample.trainable for sample in samples)]),
        lengths=np.array([len(sample.tokens) for sample in samples], np.int64),
        prompt_lengths=np.array([sample.prompt_length for sample in samples], np.int64),
        rows=np.array([row for row, _ in made], np.int64),
        notes=np.array(
            [(s.num_unended, s.num_straddling, s.num_ordinary, s.shortened, s.document, s.place) for s in samples],
            np.int32,
        ).reshape(-1, PLACE + 1),
        ends=tuple(sorted({end for sample in samples for end in sample.ends})),
        faults=tuple(sorted(faults, key=lambda fault: fault.row)),
        conversations=conversations,
        weights=_weights(samples),
        worth=_worth(samples),
        scores=_scores(samples),
        labels=_labels(samples),
    )


def _weights(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """Of all samples, one after the other; None: all are 1."""
    if all(sample.weights is None for sample in samples):
        return None
    return np.concatenate(
        [np.ones(len(each.tokens), np.float32) if each.weights is None else each.weights for each in samples]
    )


def _worth(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """Of all samples; None: none is judged."""
    if all(sample.worth is None for sample in samples):
        return None
    return np.array([np.nan if sample.worth is None else sample.worth for sample in samples], np.float32)


def _scores(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """[samples, K]; None: none has any."""
    found = [sample.scores for sample in samples if sample.scores is not None]
    assert len(found) in (0, len(samples)), "all rows of a set have the scores that the user names"
    return np.array(found, np.float32) if found else None


def _labels(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """Of all samples, one after the other; None: none is judged by steps."""
    if all(sample.labels is None for sample in samples):
        return None
    return np.concatenate(
        [np.full(len(each.tokens), np.nan, np.float32) if each.labels is None else each.labels for each in samples]
    )
