"""Records of the audit of code tasks: the task, findings, the result of one task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from burnish.sandbox.tests import TestSuite


class FindingKind(StrEnum):
    """What is wrong with a task, or notable."""

    UNUSABLE = "unusable"
    """The row has no tests that can be read, or they cannot be run."""
    GOLD_FAILS = "gold_fails"
    """The solution fails a test, each time."""
    FLAKY = "flaky"
    """The solution passes some times only."""
    SLOW = "slow"
    """The solution needs a large share of the limits."""
    ATTACK_PASSES = "attack_passes"
    """A program that attacks the tests passes: the tests or the sandbox are broken."""
    ACCEPTS_WRONG = "accepts_wrong"
    """The tests accept a program that is not the solution."""
    NO_GOLD = "no_gold"
    """The row has no solution: only attacks and constants are tried."""
    DEPENDS = "depends"
    """The text of the tests names the time, random numbers, the network, files or an exit."""

    @property
    def is_fault(self) -> bool:
        """Whether training on the task is likely to go wrong."""
        return self not in (FindingKind.NO_GOLD, FindingKind.DEPENDS)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found. Example: ``Finding(FindingKind.GOLD_FAILS, "test 2 of 3: wrong_answer")``."""

    kind: FindingKind
    detail: str
    program: str = ""
    """Name of the mutant or attack that it is about; "": none."""
    source: str = ""
    """Its source text."""


@dataclass(frozen=True, slots=True)
class CodeTask:
    """Task that is audited."""

    where: str
    """Place of the row: file and line."""
    suite: TestSuite
    gold: str | None
    """Program of its solution; None: it has none."""


@dataclass(frozen=True, slots=True)
class TaskAudit:
    """Result of one task. The counts are of programs that ought to fail."""

    where: str
    findings: tuple[Finding, ...] = ()
    num_tests: int = 0
    gold_seconds: float | None = None
    """Seconds by the clock of the fastest run of the solution on all tests; None: it did not pass."""
    killed: int = 0
    """Mutants and constants that the tests reject."""
    accepted: int = 0
    """Mutants and constants that the tests accept, and that differ from the solution."""
    perhaps_equivalent: int = 0
    """Mutants and constants that the tests accept, and that no input told from the solution."""
    attacks: int = 0
    """Attacks that were tried."""

    def has(self, kind: FindingKind) -> bool:
        """Whether there is a finding of this kind."""
        return any(finding.kind is kind for finding in self.findings)

    @property
    def passes(self) -> bool:
        """Whether it has no fault."""
        return not any(finding.kind.is_fault for finding in self.findings)


FAULTS: tuple[FindingKind, ...] = tuple(kind for kind in FindingKind if kind.is_fault)
"""Kinds of findings of rows that are left out unless others are named."""


def fault_lines(audit: TaskAudit) -> Iterator[str]:
    """A line for each kind of fault of a row, with its first finding."""
    for kind in FAULTS:
        first, *others = [finding.detail for finding in audit.findings if finding.kind is kind] or [""]
        if first:
            more = f"; and {len(others):,} more programs" if others else ""
            yield f"  {audit.where}: {kind}: {first}{more}"
