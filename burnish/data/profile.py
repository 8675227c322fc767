"""Profile of a data set in tokens, before training: the content of `burnish data profile`.

Uses `sample_builder` and `cache` like `dataset`: all samples are built as for training, whatever their length, and stay
in the cache for the next run.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from burnish.data.empty_answers import rows_with_empty_answers
from burnish.data.limits import Candidate, candidate, learned_tokens, limits, shared_tokens, starts
from burnish.data.records import (
    AnyExample,
    Completion,
    Conversation,
    Document,
    Message,
    RatedExample,
    TextPart,
    responses_of,
)
from burnish.data.rows import Rows
from burnish.data.sample_builder import SampleBuilder
from burnish.data.token_store import DOCUMENT, TokenStore
from burnish.errors import DataError

PERCENTILES = (5, 50, 90, 99, 100)
_MAX_EXAMPLES = 5000
"""Maximum number of rows, evenly spaced, in which turns, roles and scripts are counted."""
_MIN_LEARNED = 0.995
"""Minimum share of the learned tokens that a recommended max_length keeps."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Length statistics of samples, in tokens."""

    name: str
    """Name of the source."""
    samples: int
    tokens: int
    learned: int
    """Learned tokens."""
    shared: int
    """Tokens that are not computed again, since the sample before has them: of the same prompt, or of the turns of one
    conversation."""
    percentiles: tuple[int, ...]
    """Length at each of PERCENTILES."""


@dataclass(frozen=True, eq=False, slots=True)
class Profile:
    """Statistics of a data set."""

    source: str
    format: str
    rows: int
    unusable: int
    whole: Lengths
    sources: tuple[Lengths, ...]
    """One for each source of a mixture; a single one equals `whole`."""
    lengths: NDArray[np.int64]
    """[samples] tokens of each sample."""
    candidates: tuple[Candidate, ...]
    recommended: Candidate
    why: str
    """Reason for the recommendation."""
    duplicates: int
    """Number of samples whose tokens equal those of an earlier one."""
    empty_answers: int
    """Number of rows with a learned turn without text."""
    looked_at: int
    """Number of rows, evenly spaced over the set, in which the following are counted."""
    turns: Mapping[int, int]
    """Number of learned turns of a conversation -> number of conversations."""
    roles: Mapping[str, int]
    """Role -> number of messages."""
    scripts: Mapping[str, float]
    """Script (LATIN, CJK, ...) -> share of the letters, the largest first."""


def profile(builder: SampleBuilder, samples: TokenStore, max_positions: int) -> Profile:
    """Computes the profile of all samples. ``max_positions`` is the longest sequence of the model, in tokens.

    Raises:
        DataError: no row is usable.
    """
    rows = builder.rows
    if not len(samples.lengths):
        first = samples.faults[0]
        raise DataError(f"{rows.where(first.row)}: {first.given}\n  ... and all other rows", first.rule, first.remedy)
    learned = learned_tokens(samples)
    names = np.array([rows.source_of(int(row)) for row in samples.rows])
    shared = shared_tokens(samples)
    whole = _lengths_of(rows.source, samples.lengths, learned, shared)
    distinct = {name: names == name for name in dict.fromkeys(names.tolist())}
    sources = tuple(
        _lengths_of(name, samples.lengths[own], learned[own], shared[own]) for name, own in distinct.items()
    )
    candidates = tuple(candidate(samples, learned, shared, limit) for limit in limits(samples, max_positions))
    recommended, why = _recommended(candidates, samples)
    examples = list(_sampled_examples(builder))
    return Profile(
        source=rows.source,
        format=builder.format.name,
        rows=len(rows),
        unusable=len({fault.row for fault in samples.faults}),
        whole=whole,
        sources=sources,
        lengths=np.array(samples.lengths),
        candidates=candidates,
        recommended=recommended,
        why=why,
        duplicates=_duplicates(samples),
        empty_answers=len(rows_with_empty_answers(samples, builder.writer.tokenizer)),
        looked_at=len(examples),
        turns=dict(sorted(Counter(len(e.turns) for e in examples if isinstance(e, Conversation)).items())),
        roles=dict(Counter(m.role for e in examples for messages in _message_lists(e) for m in messages).most_common()),
        scripts=scripts(text for example in examples for text in _texts(example)),
    )


def _lengths_of(
    name: str, lengths: NDArray[np.int64], learned: NDArray[np.int64], shared: NDArray[np.int64]
) -> Lengths:
    percentiles = tuple(int(value) for value in np.percentile(lengths, PERCENTILES, method="higher"))
    return Lengths(name, len(lengths), int(lengths.sum()), int(learned.sum()), int(shared.sum()), percentiles)


def _recommended(candidates: Sequence[Candidate], samples: TokenStore) -> tuple[Candidate, str]:
    last = candidates[-1]
    if samples.notes[:, DOCUMENT].all():
        return last, "documents are cut into pieces and lose nothing: as long as memory allows"
    if len(candidates) > 1 and last.max_length <= 2 * int(np.percentile(samples.lengths, 99)) and not last.longer:
        return last, "it keeps every sample whole, and the longest are no outliers"
    best = next((candidate for candidate in candidates if candidate.learned >= _MIN_LEARNED), last)
    if best is last and not last.longer:
        return last, "it keeps every sample whole"
    if best is last:
        return last, f"the model takes no more, and {last.longer:,} samples are longer"
    return best, (
        f"it keeps {best.learned:.1%} of what is learned if the {best.longer:,} longer samples are cut "
        f"(overlong=truncate), {best.learned_if_dropped:.1%} if they are dropped (overlong=drop)"
    )


def _duplicates(samples: TokenStore) -> int:
    seen: set[bytes] = set()
    for sample, (start, length) in enumerate(zip(starts(samples).tolist(), samples.lengths.tolist(), strict=True)):
        seen.add(samples.digest(sample, start, start + length))
    return len(samples.lengths) - len(seen)


def _sampled_examples(builder: SampleBuilder) -> Iterator[AnyExample]:
    rows: Rows = builder.rows
    for row in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MAX_EXAMPLES)).astype(np.int64)).tolist():
        try:
            yield builder.format.convert(rows[row])
        except DataError:  # counted as unusable already
            continue


def _message_lists(example: AnyExample) -> Iterator[tuple[Message, ...]]:
    """Message lists of an example: of a comparison, its prompt and each response."""
    if isinstance(example, Conversation):
        yield example.messages
    elif isinstance(example, RatedExample):
        yield from (value for value in (example.prompt, *responses_of(example)) if isinstance(value, tuple))


def _texts(example: AnyExample) -> Iterator[str]:
    parts = (part for messages in _message_lists(example) for message in messages for part in message.parts)
    yield from (part.text for part in parts if isinstance(part, TextPart))
    if isinstance(example, RatedExample):
        yield from (value for value in (example.prompt, *responses_of(example)) if isinstance(value, str))
    elif isinstance(example, Completion):
        yield from (example.prompt, example.completion)
    elif isinstance(example, Document):
        yield example.text


_PART = 20_000
"""Maximum characters of one text in which scripts are counted."""
_SCRIPTS = 6
"""Number of scripts that are named; the others are summed."""


def scripts(texts: Iterator[str]) -> dict[str, float]:
    """Shares of letters by script, the largest first. Example: ``scripts(iter(["abc д"]))`` is 75 % LATIN."""
    letters: Counter[str] = Counter()
    for text in texts:
        letters.update(character for character in text[:_PART] if character.isalpha())
    counts: Counter[str] = Counter()
    for letter, count in letters.items():
        counts[_script(letter)] += count
    total = sum(counts.values())
    named = counts.most_common(_SCRIPTS)
    others = total - sum(count for _, count in named)
    shares = {name: count / total for name, count in named}
    return shares | ({"others": others / total} if others else {})


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """Script of a letter: the first word of its Unicode name."""
    return unicodedata.name(letter, "UNNAMED").split()[0].removesuffix("-")
