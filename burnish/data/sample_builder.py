"""Sample builder: converts a range of rows to tokenized samples, with all settings in one picklable record.

Between the steps of one row (`formats`, `rendering`, `tokenize`) and `cache`, which stores the samples and distributes
the work over processes. The result does not depend on the process, the time or the order in which ranges are built.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from operator import itemgetter

import numpy as np
import tokenizers
import transformers
from numpy.typing import NDArray

from burnish.data.formats.format import Format
from burnish.data.image_text import require_image_support, with_images_of
from burnish.data.limits import Limit
from burnish.data.records import (
    AnyExample,
    Completion,
    Conversation,
    Document,
    Labelled,
    Ranked,
    RatedExample,
    Scored,
    Stepped,
    Task,
    responses_of,
)
from burnish.data.rendering import Rendering, complete, document, render, with_labels
from burnish.data.rows import Rows
from burnish.data.settings import Comparison, SpecialTokenRule, TrainOn
from burnish.data.shared_prompt import rated_siblings, share_conversation, share_prompt, single_rated
from burnish.data.shortening import longest_fitting, shortenings
from burnish.data.special_token_text import SpecialTokenText
from burnish.data.template import Template
from burnish.data.template_parts import parts_of
from burnish.data.token_store import SHARED, RowError, TokenStore, image_arrays
from burnish.data.tokenize import Encoder, Sample
from burnish.data.writer import PINNED, Writer
from burnish.errors import DataError

_VERSION = 6
"""Incremented when the same settings give other tokens."""
_MANY = 16
"""Renderings of a row above which those that are too long for the model are not tokenized whole."""
_MAX_CHARACTERS = 1 << 25
"""Characters of renderings that are tokenized at once."""


@dataclass(frozen=True, eq=False)
class SampleBuilder:
    """Builder of samples from rows. Picklable.

    Example: ``SampleBuilder(rows, FORMATS["chat"], Writer(tokenizer, template)).make(0, 512)``.
    """

    rows: Rows
    format: Format
    writer: Writer
    train_on: TrainOn = "assistant"
    special_tokens_in_text: SpecialTokenRule = "text"
    turns_within: int | None = None
    """Maximum tokens of a conversation before its earliest turns are dropped; None: no turns are dropped."""
    comparison: Comparison | None = None
    """Kind of comparison that the loss needs; None: rows have single responses."""
    max_tokens: int | None = None
    """Maximum tokens that the model takes. Where a template rewrites earlier turns, a conversation of many turns is
    tokenized no further than that, since the longer of its many samples cannot be used; None: all are whole."""
    limit_key: str = "max_length"
    """Setting that `turns_within` comes from, in messages."""
    last_text_only: bool = False
    """Whether of compared responses of several texts only the last is kept, which a reward model reads."""

    @cached_property
    def identity(self) -> str:
        """sha256 of all inputs of the samples: `content`, and the versions of transformers and tokenizers."""
        parts = [self.content, transformers.__version__, tokenizers.__version__]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def content(self) -> str:
        """sha256 of rows, template, tokenizer and settings."""
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
            "settings": [
                self.train_on,
                self.special_tokens_in_text,
                self.turns_within if self.limit_key == "max_length" else [self.turns_within, self.limit_key],
                self.comparison,
                self.max_tokens,
                *(["last text"] if self.last_text_only else []),
                *([] if self.writer.images is None else [self.writer.images.identity]),
            ],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def make(self, start: int, stop: int, count: Callable[[int], None] | None = None) -> TokenStore:
        """Builds the samples of rows [start, stop); `count` is called before every row with the number of rows done."""
        built = _Built()
        groups: list[_Group] = []
        size = 0
        for row in range(start, stop):
            if count is not None:
                count(row - start)
            try:
                example = self.format.convert(self.rows[row])
                built.conversations += is_conversation(example)
                new = list(self._groups(example, row))
                self._note(example, built)
            except DataError as error:
                built.faults.append(RowError(row, error.given, error.rule, error.remedy))
                continue
            groups += new
            size += sum(len(rendering.text) for group in new for rendering in group.renderings)
            if size > _MAX_CHARACTERS:
                self._encode(groups, built)
                groups, size = [], 0
        self._encode(groups, built)
        return _to_token_store(built)

    def _encode(self, groups: Sequence[_Group], built: _Built) -> None:
        """Tokenizes groups in one batch and adds their samples, or the errors of their rows."""
        numbered: list[tuple[int, Sample]] = []
        for group, samples in self._encoded(groups):
            try:
                numbered += [(group.row, sample) for sample in _require_all(group, samples)]
            except DataError as error:
                built.faults.append(RowError(group.row, error.given, error.rule, error.remedy))
        if self.turns_within is not None:
            numbered = list(self._shortened(numbered, built.faults))
        for row, members in groupby(numbered, key=itemgetter(0)):
            built.numbered += [(row, sample) for sample in share_conversation([sample for _, sample in members])]

    def _note(self, example: AnyExample, built: _Built) -> None:
        """Counts what the report says of a row, once for all of its answers."""
        remarks: dict[str, None] = {}
        for conversation in _conversations(example):
            parts = parts_of(self.writer)
            built.unused_keys.update(parts.unused_keys(conversation, self.train_on))
            remarks |= dict.fromkeys(parts.remarks(conversation, self.train_on))
        built.remarks.update(remarks.keys())

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.writer.tokenizer)

    @cached_property
    def _special_text_in_template(self) -> SpecialTokenText | None:
        return self._special_text(self.writer.template)

    @cached_property
    def _special_text_in_plain(self) -> SpecialTokenText | None:
        return self._special_text(None)

    def _special_text(self, template: Template | None) -> SpecialTokenText | None:
        return SpecialTokenText.of(self.writer.tokenizer, template) if self.special_tokens_in_text == "text" else None

    def _groups(self, example: AnyExample, row: int) -> Iterator[_Group]:
        """Renders a row: one group for each rendering, or one group for all responses to a prompt.

        Raises:
            DataError: the template cannot render the row, or needs several texts for a response with several scores
                or labelled steps.
        """
        if not isinstance(example, RatedExample):
            renderings = self._renderings(example)
            limit = self.max_tokens if len(renderings) > _MANY else None
            yield from (_Group(row, (replace(rendering, max_tokens=limit),)) for rendering in renderings)
            return
        assert self.comparison is not None, "a comparison is set where rows have rated responses"
        if isinstance(example, Ranked | Labelled):
            responses = rated_siblings(example, self.comparison)
            texts = [self._renderings(response) for response, _ in responses]
            texts = [renderings[-1:] for renderings in texts] if self.last_text_only else texts
            yield _Group(
                row,
                tuple(rendering for renderings in texts for rendering in renderings),
                tuple(reward for _, reward in responses),
                counts=tuple(map(len, texts)),
            )
            return
        rendering = self._single_rendering(single_rated(example, self.comparison))
        if isinstance(example, Stepped):
            rendering = with_labels(rendering, example)
        yield _Group(row, (rendering,), scores=example.scores if isinstance(example, Scored) else None)

    def _single_rendering(self, example: Conversation | Completion) -> Rendering:
        """Renders a response with several scores or labelled steps, with its prompt, as one text.

        Raises:
            DataError: the template cannot render it, or needs several texts.
        """
        renderings = self._renderings(example)
        if len(renderings) != 1:
            raise DataError(
                given="the template rewrites earlier turns of an answer once later ones follow",
                rule="an answer with several scores, or in steps, is one text",
                remedy="learn from its last turn alone (train_on=last), or name another template",
            )
        return renderings[0]

    def _encoded(self, groups: Sequence[_Group]) -> Iterator[tuple[_Group, list[Sample | DataError]]]:
        """Yields each group with its samples; all renderings are tokenized in one batch."""
        samples = self._encoder.samples([rendering for group in groups for rendering in group.renderings])
        at = 0
        for group in groups:
            yield group, samples[at : at + len(group.renderings)]
            at += len(group.renderings)

    def _renderings(self, example: AnyExample) -> Sequence[Rendering]:
        if isinstance(example, Conversation):
            if example.images:  # else a template of text alone refuses the parts of messages, without this reason
                require_image_support(example, self.writer)
            renderings = render(example, self.writer, self.train_on, self._special_text_in_template)
            return with_images_of(renderings, example, self.writer)
        if isinstance(example, Document):
            return (document(example, self.writer.tokenizer, self._special_text_in_plain),)
        assert isinstance(example, Completion), "an example is a conversation, a completion or a document"
        rendering = complete(example, self.writer.tokenizer, self._special_text_in_plain)
        return (replace(rendering, everything=self.train_on == "everything"),)

    def _shortened(self, numbered: list[tuple[int, Sample]], faults: list[RowError]) -> Iterator[tuple[int, Sample]]:
        """Yields the samples; rows with a too long conversation are built again without its earliest turns."""
        assert self.turns_within is not None, "called only with a limit"
        long = {row for row, sample in numbered if len(sample.tokens) > self.turns_within}
        shortened_rows: set[int] = set()
        for row, sample in numbered:
            if row not in long:
                yield row, sample
            elif row not in shortened_rows:
                shortened_rows.add(row)
                yield from ((row, shorter) for shorter in self._without_turns(row, faults))

    def _without_turns(self, row: int, faults: list[RowError]) -> Sequence[Sample]:
        """Builds the samples of a conversation with as many of its last turns as fit; the system message stays."""
        limit = Limit(self.turns_within or 0, self.max_tokens, self.limit_key)

        def built(shorter: AnyExample) -> Sequence[Sample] | None:
            """Samples of a shorter conversation; None: it is too long."""
            groups = self._encoded(list(self._groups(shorter, row)))
            fitting = [sample for group, samples in groups for sample in _usable_samples(group, samples)]
            fits = fitting and all(len(sample.tokens) <= limit.tokens for sample in fitting)
            return [replace(sample, shortened=True) for sample in fitting] if fits else None

        samples = longest_fitting(shortenings(self.format.convert(self.rows[row])), built)
        if samples is not None:
            return samples
        faults.append(
            RowError(
                row,
                f"longer than {limit.tokens:,} tokens even with its last turn alone",
                f"overlong=drop_turns keeps the system message and the last turn, within {limit}",
                f"{limit.raised(then=', or ')}delete the row",
            )
        )
        return ()


@dataclass(slots=True)
class _Built:
    """Samples of a range of rows, while they are built."""

    numbered: list[tuple[int, Sample]] = field(default_factory=list)
    """Samples with the index of their row."""
    faults: list[RowError] = field(default_factory=list)
    conversations: int = 0
    unused_keys: set[str] = field(default_factory=set)
    remarks: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Group:
    """Renderings of a row that form one group."""

    row: int
    renderings: tuple[Rendering, ...]
    rewards: tuple[float, ...] | None = None
    """One for each response; None: there is one rendering without a reward."""
    scores: tuple[float, ...] | None = None
    """Scores of the only rendering; None: it has none."""
    counts: tuple[int, ...] = ()
    """Renderings of each response with a reward: one, or one for each turn if the template rewrites earlier ones."""


def _require_all(group: _Group, samples: Sequence[Sample | DataError]) -> Sequence[Sample]:
    """Returns all samples of a group.

    Raises:
        DataError: a sample has an error, or the samples share no prompt.
    """
    fitting: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DataError):
            raise sample
        fitting.append(sample if group.scores is None else replace(sample, scores=group.scores))
    if group.rewards is None:
        return fitting
    ends = list(accumulate(group.counts, initial=0))
    return share_prompt([fitting[first:last] for first, last in pairwise(ends)], group.rewards)


def _usable_samples(group: _Group, samples: Sequence[Sample | DataError]) -> Sequence[Sample]:
    """Returns the samples of a group; only those without an error if the group has one unrated rendering."""
    is_rated = group.rewards or group.scores
    return _require_all(group, samples if is_rated else [sample for sample in samples if isinstance(sample, Sample)])


def is_conversation(example: AnyExample) -> bool:
    """Whether the chat template renders the example."""
    if isinstance(example, RatedExample | Task):
        return isinstance(example.prompt, tuple)
    return isinstance(example, Conversation)


def _conversations(example: AnyExample) -> Iterator[Conversation]:
    """Conversations that the template renders: of a comparison, the prompt with each response."""
    if isinstance(example, Conversation):
        yield example
    elif isinstance(example, RatedExample) and isinstance(example.prompt, tuple):
        for response in responses_of(example):
            if isinstance(response, tuple):
                yield Conversation(example.prompt + response, example.tools)


def _to_token_store(built: _Built) -> TokenStore:
    samples = [sample for _, sample in built.numbered]
    return TokenStore(
        tokens=np.concatenate([np.empty(0, np.int32), *(sample.tokens for sample in samples)]),
        trainable=np.concatenate([np.empty(0, np.bool_), *(sample.trainable for sample in samples)]),
        lengths=np.array([len(sample.tokens) for sample in samples], np.int64),
        prompt_lengths=np.array([sample.prompt_length for sample in samples], np.int64),
        rows=np.array([row for row, _ in built.numbered], np.int64),
        notes=np.array(
            [
                (
                    s.num_unended,
                    s.num_straddling,
                    s.num_ordinary,
                    s.shortened,
                    s.document,
                    s.response_index,
                    s.text_index,
                    s.shared,
                )
                for s in samples
            ],
            np.int32,
        ).reshape(-1, SHARED + 1),
        ends=tuple(sorted({end for sample in samples for end in sample.ends})),
        faults=tuple(sorted(built.faults, key=lambda fault: fault.row)),
        conversations=built.conversations,
        unused_keys=tuple(sorted(built.unused_keys)),
        remarks=dict(sorted(built.remarks.items())),
        weights=_weights(samples),
        worth=_rewards(samples),
        scores=_scores(samples),
        labels=_step_labels(samples),
        **image_arrays([sample.media for sample in samples]),
    )


def _weights(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """[T] weights of all samples, concatenated; None: all are 1."""
    if all(sample.weights is None for sample in samples):
        return None
    return np.concatenate(
        [np.ones(len(sample.tokens), np.float32) if sample.weights is None else sample.weights for sample in samples]
    )


def _rewards(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """[samples] rewards, NaN where a sample has none; None: no sample has one."""
    if all(sample.reward is None for sample in samples):
        return None
    return np.array([np.nan if sample.reward is None else sample.reward for sample in samples], np.float32)


def _scores(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """[samples, K] scores; None: no sample has scores."""
    scores = [sample.scores for sample in samples if sample.scores is not None]
    assert len(scores) in (0, len(samples)), "all rows of a set have the scores that the user names"
    return np.array(scores, np.float32) if scores else None


def _step_labels(samples: Sequence[Sample]) -> NDArray[np.float32] | None:
    """[T] step labels of all samples, concatenated; None: no sample has them."""
    if all(sample.step_labels is None for sample in samples):
        return None
    return np.concatenate(
        [
            np.full(len(sample.tokens), np.nan, np.float32) if sample.step_labels is None else sample.step_labels
            for sample in samples
        ]
    )
