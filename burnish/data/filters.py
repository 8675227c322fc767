"""Preference filters: find flawed comparisons in a data set before training.

Between `mixture` (rows and their formats) and `dataset`. The filters read the text of rows, not tokens, and read all
rows: duplicates and contradictions show only in the whole set. Each kind of flaw has a rule: its rows are left out,
kept, or stop the run. The report counts them under every rule.
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
from burnish.data.formats.comparisons import ComparisonError
from burnish.data.mixture import Data
from burnish.data.records import AnyExample, Labelled, Ranked, RatedExample, Stepped, TextOrMessages, responses_of
from burnish.errors import DataError

Finding = Literal["identical", "tie", "prompts", "empty", "duplicate", "contradiction", "contamination"]
"""identical: all responses are the same. tie: none is better. prompts: the responses follow different prompts. empty:
a response is empty or white space. duplicate: the row repeats an earlier one. contradiction: another row prefers the
opposite. contamination: the prompt is in the held-out data."""

_DESCRIPTIONS: Mapping[Finding, str] = {
    "identical": "have responses that are all the same",
    "tie": "have responses of equal score",
    "prompts": "have responses to different prompts",
    "empty": "have an empty response",
    "duplicate": "repeat an earlier row",
    "contradiction": "prefer what another row rejects, of the same two responses",
    "contamination": "have a prompt that is held out",
}
_MAX_PLACES = 3
"""Rows named in a line; the others are counted."""
_Z_95 = 1.96
"""Standard deviations of a fair coin beyond which a share is reported."""


@dataclass(frozen=True, slots=True)
class FilterReport:
    """Rows with one kind of flaw, and the rule for them."""

    finding: Finding
    rule: Rule
    rows: tuple[int, ...]
    where: tuple[str, ...]
    """File and line of the first few."""

    def __str__(self) -> str:
        outcome = {"drop": "left out", "keep": "kept", "error": "stopped"}[self.rule]
        return f"{len(self.rows):,} rows {_DESCRIPTIONS[self.finding]}: {outcome} ({', '.join(self.where)} ...)"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Counts of pairs by whether the better response is the longer one, in characters."""

    longer: int
    shorter: int
    equal: int

    @property
    def share(self) -> float:
        """Share of pairs whose better response is longer, among pairs whose lengths differ; 0.5 if there are none.

        It is the accuracy of a rule that always prefers the longer response.
        """
        return self.longer / (self.longer + self.shorter) if self.longer + self.shorter else 0.5

    @property
    def is_biased(self) -> bool:
        """True if `share` differs from 0.5 at the level of 5 %."""
        return abs(self.share - 0.5) > _Z_95 * 0.5 / math.sqrt(max(1, self.longer + self.shorter))


@dataclass(frozen=True, eq=False, slots=True)
class PreferenceFilters:
    """Report of the filters on a data set, with the rows that pass."""

    source: str
    num_rows: int
    findings: tuple[FilterReport, ...]
    lengths: Lengths | None
    """None: rows have single responses."""
    tags: Mapping[str, int]
    """Tag -> number of rows; empty: rows carry no tags."""
    conflicts: Mapping[str, int]
    """Two tags of the same row ("helpful & harmless") -> number of rows."""
    labels: Mapping[bool, int]
    """Label -> number of rows; empty: rows have no labels."""
    passed: NDArray[np.int64]
    """Indices of the rows that pass, ascending."""
    prompts: frozenset[bytes]
    """Digests of the prompts of these rows."""

    def lines(self) -> Iterator[str]:
        """Report lines: every finding, a length bias, and counts of tags."""
        for finding in self.findings:
            yield f"{self.source}: {finding}"
        if self.lengths is not None and self.lengths.is_biased:
            yield (
                f"{self.source}: the longer answer is the better one in {self.lengths.share:.0%} of the pairs: "
                "look at accuracy with length controlled"
            )
        if len(self.labels) == 1:
            ((label, count),) = self.labels.items()
            yield (
                f"{self.source}: all {count:,} rows have the label {str(label).lower()}: there is nothing to tell "
                f"{'desirable' if label else 'undesirable'} answers from"
            )
        for name, counts in (("tags", self.tags), ("tags that meet", self.conflicts)):
            if counts:
                yield f"{self.source}: rows by {name}: " + ", ".join(f"{k} {n:,}" for k, n in counts.items())

    def card(self) -> dict[str, Any]:
        """JSON record for data.json and report.html."""
        lengths = self.lengths
        return {
            "rows": self.num_rows,
            "passed": len(self.passed),
            "found": {report.finding: {"rows": len(report.rows), "rule": report.rule} for report in self.findings},
            "longer_is_better": None if lengths is None else lengths.share,
            "tags": dict(self.tags),
            "conflicts": dict(self.conflicts),
            "lines": list(self.lines()),
        }


@dataclass(slots=True)
class _Scan:
    """State of the scan over the rows."""

    flaws: dict[Finding, dict[int, None]] = field(default_factory=dict)
    """Rows of each flaw, each once, in the order of detection."""
    prompts: dict[int, bytes] = field(default_factory=dict)
    """Row -> digest of its prompt, for rows with different responses."""
    first_rows: dict[bytes, int] = field(default_factory=dict)
    """Digest of a whole comparison -> the first row with it."""
    lengths: Counter[str] = field(default_factory=Counter)
    num_pairs: int = 0
    labels: Counter[bool] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding, row: int) -> None:
        self.flaws.setdefault(finding, {})[row] = None


def apply_filters(data: Data, rules: FilterRules, held_out: PreferenceFilters | None = None) -> PreferenceFilters:
    """Applies the filters to all rows.

    Args:
        data: comparisons, or responses with labels or scores. Rows with other errors are left to `DatasetSpec`.
        rules: the rule for each kind of flaw.
        held_out: report of the held-out rows, whose prompts must not be trained on; None: there are none.

    Raises:
        DataError: a row has a flaw whose rule is error, or a limit of the rules is exceeded.
    """
    scan = _Scan()
    for row, example, tags in _examples(data, scan):
        try:
            _check_row(row, example, scan)
        except DataError:  # a row with images, reported by DatasetSpec
            continue
        scan.tags.update(tags)
        scan.conflicts.update(" & ".join(pair) for pair in combinations(sorted(set(tags)), 2))
    if held_out is not None:
        for row in (row for row, prompt in scan.prompts.items() if prompt in held_out.prompts):
            scan.add("contamination", row)
    return _apply_rules(data, rules, scan)


def _examples(data: Data, scan: _Scan) -> Iterator[tuple[int, RatedExample, list[str]]]:
    """Yields each comparison with its row index and its tags; records `ComparisonError`s in the scan."""
    start = 0
    for part in data.parts:
        for index in range(len(part.rows)):
            try:
                row = part.rows[index]
                example: AnyExample = part.format.convert(row)
            except ComparisonError as error:
                scan.add(error.kind, start + index)
                continue
            except DataError:  # reported by DatasetSpec, together with all other unusable rows
                continue
            if isinstance(example, RatedExample):
                yield start + index, example, tags_of(row.get("tags"))
        start += len(part.rows)


def tags_of(value: object) -> list[str]:
    """Tags of a row: the column may have one, or a list of them."""
    return [value] if isinstance(value, str) else [str(tag) for tag in value] if isinstance(value, list) else []


def _check_row(row: int, example: RatedExample, scan: _Scan) -> None:
    """Checks one row alone and against the earlier rows.

    Raises:
        DataError: the row has images.
    """
    prompt = _digest(_text(example.prompt))
    texts = [_text(response) for response in _responses(example)]
    if len(texts) > 1 and len(set(texts)) == 1:
        scan.add("identical", row)
        return
    if not all(text.strip() for text in texts):
        scan.add("empty", row)
    digests = [_digest(text) for text in texts]
    scan.prompts[row] = prompt
    comparison = _digest(b"".join([prompt, *digests, _label_bytes(example)]))
    if comparison in scan.first_rows:
        scan.add("duplicate", row)
        return
    scan.first_rows[comparison] = row
    if isinstance(example, Labelled):
        scan.labels[example.label] += 1
    opposite = scan.first_rows.get(_opposite(example, prompt, digests))
    if opposite is not None:
        scan.add("contradiction", opposite)
        scan.add("contradiction", row)
    if len(texts) == 2:
        better, worse = map(len, texts)
        scan.num_pairs += 1
        scan.lengths["longer" if better > worse else "shorter" if better < worse else "equal"] += 1


def _label_bytes(example: RatedExample) -> bytes:
    """Label, scores or step labels of a row as bytes; empty for a comparison, whose order of responses says it."""
    if isinstance(example, Labelled):
        return b"%d" % example.label
    if isinstance(example, Ranked):
        return b""
    return repr(example.labels if isinstance(example, Stepped) else example.scores).encode()


def _opposite(example: RatedExample, prompt: bytes, digests: Sequence[bytes]) -> bytes:
    """Digest of the row that would state the opposite preference."""
    if isinstance(example, Labelled):
        return _digest(b"".join([prompt, *digests, b"%d" % (not example.label)]))
    return _digest(b"".join([prompt, *reversed(digests)]))


def _responses(example: RatedExample) -> list[TextOrMessages]:
    """Responses of a row, the best first."""
    if not isinstance(example, Ranked):
        return list(responses_of(example))
    order = sorted(range(len(example.scores)), key=lambda index: -example.scores[index])
    return [example.responses[index] for index in order]


def _text(content: TextOrMessages) -> str:
    """Text of a prompt or response; messages have their roles before them, unless there is only one."""
    if isinstance(content, str):
        return content
    if len(content) == 1 and not content[0].extra:
        return content[0].identity
    return "\n".join(f"{message.role}: {message.identity} {dict(message.extra) or ''}" for message in content)


def _digest(value: str | bytes) -> bytes:
    return hashlib.blake2b(value.encode() if isinstance(value, str) else value, digest_size=16).digest()


def _apply_rules(data: Data, rules: FilterRules, scan: _Scan) -> PreferenceFilters:
    """Report of the scan; raises DataError where a rule demands it."""
    where = data.rows.where
    findings = tuple(
        FilterReport(
            finding, getattr(rules, finding), tuple(rows), tuple(where(row) for row in list(rows)[:_MAX_PLACES])
        )
        for finding, rows in scan.flaws.items()
    )
    for report in findings:
        if report.rule == "error":
            raise _rule_error(data, report)
    lengths = (
        Lengths(scan.lengths["longer"], scan.lengths["shorter"], scan.lengths["equal"]) if scan.num_pairs else None
    )
    if lengths is not None and lengths.share > rules.max_chosen_longer_share:
        raise _length_bias_error(data, lengths, rules.max_chosen_longer_share)
    _require_tags(data, scan, rules.min_rows_per_tag)
    dropped = np.array(sorted({row for report in findings if report.rule == "drop" for row in report.rows}), np.int64)
    passed = np.setdiff1d(np.arange(len(data.rows)), dropped)
    if not len(passed):
        raise DataError(
            given=f"no row of {data.rows.source} passes the filters: " + "; ".join(map(str, findings)),
            rule="at least one comparison is left to learn from",
            remedy="name other data, or set a rule of filters to keep",
        )
    prompts = frozenset(scan.prompts[row] for row in passed.tolist() if row in scan.prompts)
    tags, conflicts = dict(scan.tags.most_common()), dict(scan.conflicts.most_common())
    labels = dict(scan.labels)
    return PreferenceFilters(
        data.rows.source, len(data.rows), findings, lengths, tags, conflicts, labels, passed, prompts
    )


def _rule_error(data: Data, report: FilterReport) -> DataError:
    remedy = f"delete these rows, or leave them out: filters.{report.finding}=drop"
    return DataError(
        given=f"{len(report.rows):,} of {len(data.rows):,} rows {_DESCRIPTIONS[report.finding]}: "
        + ", ".join(report.where),
        rule=f"filters.{report.finding} is error",
        remedy=remedy,
    )


def _length_bias_error(data: Data, lengths: Lengths, max_share: float) -> DataError:
    return DataError(
        given=f"the longer answer is the better one in {lengths.share:.1%} of the pairs of {data.rows.source}",
        rule=f"filters.max_chosen_longer_share allows {max_share:.1%}: a policy could learn to be long instead of good",
        remedy="balance the data, or raise filters.max_chosen_longer_share and look at accuracy with length controlled",
    )


def _require_tags(data: Data, scan: _Scan, min_rows: int) -> None:
    few = {name: count for counts in (scan.tags, scan.conflicts) for name, count in counts.items() if count < min_rows}
    if few or (min_rows and not scan.tags):
        raise DataError(
            given=f"{data.rows.source} has few rows of "
            + (", ".join(f"{name} ({count:,})" for name, count in few.items()) or "any tag: rows carry no column tags"),
            rule=f"filters.min_rows_per_tag wants {min_rows:,} rows of each tag, and of each pair of tags in one row",
            remedy="add rows with these tags, or lower filters.min_rows_per_tag",
        )
