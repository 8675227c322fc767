"""The gate before learning from judged answers: what is wrong with comparisons, found before any is learned from.

Over `mixture` (rows and what they mean), under `prepare`. It looks at what rows say, not at tokens, and at all of them:
a duplicate or a contradiction is known only of the whole set. Each finding has a rule: such rows are left out, kept, or
stop the run; whatever it is, the report counts them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from burnish.data.filter_rules import FilterRules, Rule
from burnish.data.formats.comparison_error import ComparisonError
from burnish.data.mixture import Data
from burnish.data.records import AnyExample, Judged, Labelled, Ranked, Said, Stepped, answers
from burnish.errors import DataError

Finding = Literal["identical", "tie", "prompts", "empty", "duplicate", "contradiction", "contamination"]
"""identical: all answers are the same. tie: none is better. prompts: the answers follow different prompts. empty: an
answer is empty or white space. duplicate: an earlier row says the same. contradiction: another row prefers the
opposite. contamination: the prompt is among those that are measured."""

_WORDS: Mapping[Finding, str] = {
    "identical": "have answers that are all the same",
    "tie": "have answers of equal worth",
    "prompts": "have answers to different prompts",
    "empty": "have an empty answer",
    "duplicate": "say what an earlier row says",
    "contradiction": "prefer what another row rejects, of the same two answers",
    "contamination": "have a prompt that is held out",
}
_SHOWN = 3
"""Rows that are named."""
_LIKE_COIN = 1.96
"""Standard deviations of a coin beyond which a share is worth a line."""


@dataclass(frozen=True, slots=True)
class FilterReport:
    """Rows of one finding."""

    finding: Finding
    rule: Rule
    rows: tuple[int, ...]
    where: tuple[str, ...]
    """File and line of the first few."""

    def __str__(self) -> str:
        done = {"drop": "left out", "keep": "kept", "error": "stopped"}[self.rule]
        return f"{len(self.rows):,} rows {_WORDS[self.finding]}: {done} ({', '.join(self.where)} ...)"


@dataclass(frozen=True, slots=True)
class Lengths:
    """How often the better answer of two is the longer one, in characters."""

    longer: int
    shorter: int
    equal: int

    @property
    def share(self) -> float:
        """Of the pairs whose lengths differ: what a judge of lengths alone gets right. 0.5 if there are none."""
        return self.longer / (self.longer + self.shorter) if self.longer + self.shorter else 0.5

    @property
    def is_biased(self) -> bool:
        """Whether a coin would hardly do that."""
        return abs(self.share - 0.5) > _LIKE_COIN * 0.5 / math.sqrt(max(1, self.longer + self.shorter))


@dataclass(frozen=True, eq=False, slots=True)
class PreferenceFilters:
    """What was found in a set, and which of its rows pass."""

    source: str
    num_rows: int
    found: tuple[FilterReport, ...]
    lengths: Lengths | None
    """None: rows have single answers."""
    tags: Mapping[str, int]
    """Tag -> rows; empty: rows carry none."""
    conflicts: Mapping[str, int]
    """Two tags that meet in a row ("helpful & harmless") -> rows."""
    passed: NDArray[np.int64]
    """Indices of the rows that are learned from, rising."""
    prompts: frozenset[bytes]
    """Digests of their prompts."""

    def lines(self) -> Iterator[str]:
        """For people: only what is worth a look."""
        for found in self.found:
            yield f"{self.source}: {found}"
        if self.lengths is not None and self.lengths.is_biased:
            yield (
                f"{self.source}: the longer answer is the better one in {self.lengths.share:.0%} of the pairs: "
                "look at accuracy with length controlled"
            )
        for name, counts in (("tags", self.tags), ("tags that meet", self.conflicts)):
            if counts:
                yield f"{self.source}: rows by {name}: " + ", ".join(f"{k} {n:,}" for k, n in counts.items())

    def card(self) -> dict[str, Any]:
        """As data.json has it, and report.html shows it."""
        lengths = self.lengths
        return {
            "rows": self.num_rows,
            "passed": len(self.passed),
            "found": {each.finding: {"rows": len(each.rows), "rule": each.rule} for each in self.found},
            "longer_is_better": None if lengths is None else lengths.share,
            "tags": dict(self.tags),
            "conflicts": dict(self.conflicts),
            "lines": list(self.lines()),
        }


@dataclass(slots=True)
class _Seen:
    """What is known after some rows."""

    found: dict[Finding, dict[int, None]] = field(default_factory=dict)
    """Rows, each once, in the order in which they were found."""
    prompts: dict[int, bytes] = field(default_factory=dict)
    """Row -> digest of its prompt, of all rows that say something."""
    first: dict[bytes, int] = field(default_factory=dict)
    """Digest of a whole comparison -> the first row that says it."""
    lengths: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    tags: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding, row: int) -> None:
        self.found.setdefault(finding, {})[row] = None


def apply_filters(data: Data, rules: FilterRules, held_out: PreferenceFilters | None = None) -> PreferenceFilters:
    """Looks at all rows.

    Args:
        data: comparisons, or answers with labels. Rows that cannot be used for another reason are left for later.
        rules: what happens to what is found.
        held_out: the gate of the rows that are measured, whose prompts must not be learned; None: there are none.

    Raises:
        DataError: something was found whose rule is error.
    """
    seen = _Seen()
    for row, example, tags in _examples(data, seen):
        _look(row, example, seen)
        seen.tags.update(tags)
        seen.conflicts.update(" & ".join(pair) for pair in combinations(sorted(set(tags)), 2))
    if held_out is not None:
        for row in (row for row, prompt in seen.prompts.items() if prompt in held_out.prompts):
            seen.add("contamination", row)
    return _judged(data, rules, seen)


def _examples(data: Data, seen: _Seen) -> Iterator[tuple[int, Judged, list[str]]]:
    """Each comparison with its row and its tags; what is wrong with others is noted."""
    start = 0
    for part in data.parts:
        for index in range(len(part.rows)):
            try:
                row = part.rows[index]
                example: AnyExample = part.format.convert(row)
            except ComparisonError as error:
                seen.add(error.kind, start + index)
                continue
            except DataError:  # which the preparation tells, with all others
                continue
            if isinstance(example, Judged):
                yield start + index, example, tags_of(row.get("tags"))
        start += len(part.rows)


def tags_of(value: object) -> list[str]:
    """The tags of a row: one, or a list of them."""
    return [value] if isinstance(value, str) else [str(tag) for tag in value] if isinstance(value, list) else []


def _look(row: int, example: Judged, seen: _Seen) -> None:
    """One row, by itself and beside the earlier ones."""
    responses = _responses(example)
    texts = [_text(response) for response in responses]
    if len(texts) > 1 and len(set(texts)) == 1:
        seen.add("identical", row)
        return
    if not all(text.strip() for text in texts):
        seen.add("empty", row)
    prompt, digests = _digest(_text(example.prompt)), [_digest(text) for text in texts]
    seen.prompts[row] = prompt
    said = _digest(b"".join([prompt, *digests, _verdict(example)]))
    if said in seen.first:
        seen.add("duplicate", row)
        return
    seen.first[said] = row
    opposite = seen.first.get(_opposite(example, prompt, digests))
    if opposite is not None:
        seen.add("contradiction", opposite)
        seen.add("contradiction", row)
    if len(texts) == 2:
        better, worse = map(len, texts)
        seen.judged += 1
        seen.lengths["longer" if better > worse else "shorter" if better < worse else "equal"] += 1


def _verdict(example: Judged) -> bytes:
    """What a row says of its answer, beside the order of several."""
    if isinstance(example, Labelled):
        return b"%d" % example.label
    if isinstance(example, Ranked):
        return b""
    return repr(example.labels if isinstance(example, Stepped) else example.scores).encode()


def _opposite(example: Judged, prompt: bytes, digests: Sequence[bytes]) -> bytes:
    """The digest of the row that would say the opposite."""
    if isinstance(example, Labelled):
        return _digest(b"".join([prompt, *digests, b"%d" % (not example.label)]))
    return _digest(b"".join([prompt, *reversed(digests)]))


def _responses(example: Judged) -> list[Said]:
    """The best first."""
    if not isinstance(example, Ranked):
        return list(answers(example))
    order = sorted(range(len(example.scores)), key=lambda index: -example.scores[index])
    return [example.responses[index] for index in order]


def _text(said: Said) -> str:
    """What is said; of messages, with who says it, unless it is a single one."""
    if isinstance(said, str):
        return said
    if len(said) == 1 and not said[0].extra:
        return said[0].content or ""
    return "\n".join(f"{message.role}: {message.content or ''} {dict(message.extra) or ''}" for message in said)


def _digest(value: str | bytes) -> bytes:
    return hashlib.blake2b(value.encode() if isinstance(value, str) else value, digest_size=16).digest()


def _judged(data: Data, rules: FilterRules, seen: _Seen) -> PreferenceFilters:
    """The gate, after its rules."""
    where = data.rows.where
    found = tuple(
        FilterReport(finding, getattr(rules, finding), tuple(rows), tuple(where(row) for row in list(rows)[:_SHOWN]))
        for finding, rows in seen.found.items()
    )
    for each in found:
        if each.rule == "error":
            raise _stopped(data, each)
    lengths = Lengths(seen.lengths["longer"], seen.lengths["shorter"], seen.lengths["equal"]) if seen.judged else None
    if lengths is not None and lengths.share > rules.max_chosen_longer_share:
        raise _too_long(data, lengths, rules.max_chosen_longer_share)
    _require_tags(data, seen, rules.min_rows_per_tag)
    dropped = np.array(sorted({row for each in found if each.rule == "drop" for row in each.rows}), np.int64)
    passed = np.setdiff1d(np.arange(len(data.rows)), dropped)
    if not len(passed):
        raise DataError(
            given=f"no row of {data.rows.source} passes the gate: " + "; ".join(str(each) for each in found),
            rule="at least one comparison is left to learn from",
            remedy="name other data, or set a rule of filters to keep",
        )
    prompts = frozenset(seen.prompts[row] for row in passed.tolist() if row in seen.prompts)
    tags, conflicts = dict(seen.tags.most_common()), dict(seen.conflicts.most_common())
    return PreferenceFilters(data.rows.source, len(data.rows), found, lengths, tags, conflicts, passed, prompts)


def _stopped(data: Data, found: FilterReport) -> DataError:
    remedy = f"delete these rows, or leave them out: filters.{found.finding}=drop"
    return DataError(
        given=f"{len(found.rows):,} of {len(data.rows):,} rows {_WORDS[found.finding]}: {', '.join(found.where)}",
        rule=f"filters.{found.finding} is error",
        remedy=remedy,
    )


def _too_long(data: Data, lengths: Lengths, most: float) -> DataError:
    return DataError(
        given=f"the longer answer is the better one in {lengths.share:.1%} of the pairs of {data.rows.source}",
        rule=f"filters.max_chosen_longer_share allows {most:.1%}: a policy could learn to be long instead of good",
        remedy="balance the data, or raise filters.max_chosen_longer_share and look at accuracy with length controlled",
    )


def _require_tags(data: Data, seen: _Seen, least: int) -> None:
    few = {name: count for counts in (seen.tags, seen.conflicts) for name, count in counts.items() if count < least}
    if few or (least and not seen.tags):
        raise DataError(
            given=f"{data.rows.source} has few rows of "
            + (", ".join(f"{name} ({count:,})" for name, count in few.items()) or "any tag: rows carry no column tags"),
            rule=f"filters.min_rows_per_tag wants {least:,} rows of each tag, and of each two tags that meet in a row",
            remedy="add rows with these tags, or lower filters.min_rows_per_tag",
        )
