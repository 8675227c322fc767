"""Audit of one code task: its solution must pass, each time and in time, and wrong programs must not.

`wrong_programs` and `mutants` make programs that should fail; `probes` tells mutants that are wrong from those that are
perhaps equivalent. Everything that is drawn depends on the seed and the task alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from burnish.grading.code_audit.calls import KnownCall, expected_values, hints, known_calls, names_used_by
from burnish.grading.code_audit.findings import CodeTask, Finding, FindingKind, TaskAudit
from burnish.grading.code_audit.probes import call_probes, difference, stdin_probes
from burnish.grading.code_audit.settings import TaskAuditSettings
from burnish.sandbox.base import Engine, Limits, TestResult, TestStatus, UnusableTestsError
from burnish.sandbox.mutants import Mutant, MutantKind, edited, seeded
from burnish.sandbox.tests import StdinTest, TestSuite
from burnish.sandbox.wrong_programs import (
    TestedNames,
    attacks_of_functions,
    attacks_of_scripts,
    constants_of_functions,
    constants_of_scripts,
)

_LUCKY = "reading:"
"""Beginning of the names of attacks that may return a right value by chance, where a constant is right."""


def audit(engines: Sequence[Engine], task: CodeTask, settings: TaskAuditSettings, seed: int = 0) -> TaskAudit:
    """Audits a task.

    Args:
        engines: the first runs everything; the solution is run on all in turn, which may hash text differently.
        task: the task.
        settings: limits, and numbers of programs.
        seed: draws mutants and inputs.

    Raises:
        SandboxError: the sandbox failed, which says nothing of the task.
    """
    try:
        return _Audit(engines, task, settings, random.Random(f"{seed} {task.where}")).result()
    except UnusableTestsError as error:
        finding = Finding(FindingKind.UNUSABLE, str(error))
        return TaskAudit(task.where, (finding,), len(task.suite.tests))


@dataclass(eq=False)
class _Audit:
    """The audit of a task while it runs."""

    engines: Sequence[Engine]
    task: CodeTask
    settings: TaskAuditSettings
    generator: random.Random
    findings: list[Finding] = field(default_factory=list)

    def result(self) -> TaskAudit:
        """Runs all programs, and returns what was found."""
        names = names_used_by(self.task.suite, self.task.gold)
        calls = known_calls(self.task.suite, names)
        seconds = self._gold_seconds()
        gold = self.task.gold if seconds is not None else None
        limits = self._limits(seconds)
        constants, attacks = _programs(self.task.suite, names, calls)
        edits = [] if gold is None else self._edits(gold)
        accepted, killed = self._accepted([*constants, *edits], limits)
        attacks = attacks if self.settings.attacks else ()
        self._try_attacks(attacks, limits, constants_pass=any(m.kind is MutantKind.CONSTANT for m in accepted))
        probes = None if gold is None or not accepted else self._probes(gold, calls, limits)
        wrong = [finding for mutant in accepted if (finding := self._judged(mutant, probes, limits))]
        self.findings += wrong
        if found := hints(self.task.suite):
            self.findings.append(Finding(FindingKind.DEPENDS, f"the tests depend on: {', '.join(found)}"))
        return TaskAudit(
            self.task.where,
            tuple(sorted(self.findings, key=lambda finding: list(FindingKind).index(finding.kind))),
            len(self.task.suite.tests),
            seconds,
            killed,
            len(wrong),
            len(accepted) - len(wrong),
            sum(mutant.kind is MutantKind.ATTACK for mutant in attacks),
        )

    def _gold_seconds(self) -> float | None:
        """Seconds of the solution; None: there is none, or it does not pass each time."""
        gold, suite, limits = self.task.gold, self.task.suite, self.settings.limits
        if gold is None:
            self.findings.append(Finding(FindingKind.NO_GOLD, "the row has no solution"))
            return None
        runs: list[Sequence[TestResult]] = []
        seconds = []
        for turn in range(self.settings.repeats):
            program = gold if turn == 0 else seeded(gold, turn)
            begun = time.perf_counter()
            runs.append(self.engines[turn % len(self.engines)].test(program, suite, limits, stop_early=False))
            seconds.append(time.perf_counter() - begun)
            if turn == 0 and all(result.status is TestStatus.COMPILE_ERROR for result in runs[0]):
                break
        passed = [all(result.passed for result in run) for run in runs]
        if not all(passed):
            self.findings.append(_gold_finding(runs, passed))
            return None
        self._note_slowness(gold)
        return min(seconds)

    def _note_slowness(self, gold: str) -> None:
        """Runs the solution with a share of the seconds of all limits."""
        share, limits = self.settings.slow_share, self.settings.limits
        results = self.engines[0].test(gold, self.task.suite, _scaled(limits, share), stop_early=False)
        late = next((index for index, result in enumerate(results) if not result.passed), None)
        if late is not None and results[late].status in (TestStatus.TIMEOUT, TestStatus.NOT_RUN):
            detail = f"test {late + 1} of {len(results)} needs more than {share:.0%} of the seconds of its limits"
            self.findings.append(Finding(FindingKind.SLOW, f"{detail}: {results[late].detail}"))

    def _limits(self, gold_seconds: float | None) -> Limits:
        """Limits of wrong programs: ten times the solution's seconds, at least one, since a mutant may run forever."""
        limits = self.settings.limits
        if gold_seconds is None:
            return limits
        cpu = min(limits.cpu_seconds, max(1.0, 10 * gold_seconds))
        wall = min(limits.wall_seconds, 3 * cpu)
        return limits.model_copy(update={"cpu_seconds": cpu, "wall_seconds": wall})

    def _edits(self, gold: str) -> list[Mutant]:
        script = isinstance(self.task.suite.tests[0], StdinTest)
        return list(edited(gold, self.settings.mutants, self.generator, script=script))

    def _accepted(self, mutants: Sequence[Mutant], limits: Limits) -> tuple[list[Mutant], int]:
        """Mutants that pass all tests, and the number of the others."""
        accepted = [mutant for mutant in mutants if self._passes(mutant, limits)]
        return accepted, len(mutants) - len(accepted)

    def _passes(self, mutant: Mutant, limits: Limits) -> bool:
        return all(result.passed for result in self.engines[0].test(mutant.source, self.task.suite, limits))

    def _try_attacks(self, attacks: Sequence[Mutant], limits: Limits, *, constants_pass: bool) -> None:
        """Reports attacks that pass. Where the control passes, the tests check nothing, and no attack is needed."""
        passed = [mutant for mutant in attacks if self._passes(mutant, limits)]
        control = next((mutant for mutant in passed if mutant.kind is MutantKind.CONTROL), None)
        if control is not None:
            detail = "the tests accept a program whose result is a text that has no meaning"
            self.findings.append(Finding(FindingKind.ACCEPTS_WRONG, detail, control.name, control.source))
            return
        for mutant in passed:
            if not (constants_pass and mutant.name.startswith(_LUCKY)):
                detail = f"a program passes that attacks the tests ({mutant.name})"
                self.findings.append(Finding(FindingKind.ATTACK_PASSES, detail, mutant.name, mutant.source))

    def _probes(self, gold: str, calls: Sequence[KnownCall], limits: Limits) -> TestSuite | None:
        engine, count = self.engines[0], self.settings.inputs
        tests = [test for test in self.task.suite.tests if isinstance(test, StdinTest)]
        if tests:
            return stdin_probes(engine, gold, tests, limits, count, self.generator)
        return call_probes(engine, gold, calls, limits, count, self.generator)

    def _judged(self, mutant: Mutant, probes: TestSuite | None, limits: Limits) -> Finding | None:
        """Finding of a mutant that passes; None: it is perhaps equivalent to the solution.

        A constant is not equivalent to any solution that is worth a task, so it needs no input that shows it.
        """
        shown = None if probes is None else difference(self.engines[0], mutant.source, probes, limits)
        if shown is None and (mutant.kind is MutantKind.EDIT or probes is not None):
            return None
        detail = f"the tests accept {mutant.name}"
        return Finding(FindingKind.ACCEPTS_WRONG, f"{detail}; {shown}" if shown else detail, mutant.name, mutant.source)


def _programs(
    suite: TestSuite, names: TestedNames, calls: Sequence[KnownCall]
) -> tuple[tuple[Mutant, ...], tuple[Mutant, ...]]:
    """Constants, and attacks, for the kind of the tests."""
    texts = [test.stdout for test in suite.tests if isinstance(test, StdinTest)]
    if texts:
        return constants_of_scripts(texts), attacks_of_scripts(texts)
    return constants_of_functions(names, expected_values(calls)), attacks_of_functions(names)


def _gold_finding(runs: Sequence[Sequence[TestResult]], passed: Sequence[bool]) -> Finding:
    """The solution fails always, or its verdicts differ: then it is flaky."""
    failed = list(_failures(runs))
    if len(runs) > 1 and len({tuple(result.status for result in run) for run in runs}) > 1:
        counted = f"passes {sum(passed)} of {len(runs)} times" if any(passed) else "fails other tests each time"
        return Finding(FindingKind.FLAKY, f"the solution {counted}; {failed[0]}")
    return Finding(FindingKind.GOLD_FAILS, f"the solution fails {failed[0]}")


def _failures(runs: Sequence[Sequence[TestResult]]) -> Iterator[str]:
    for run in runs:
        for index, result in enumerate(run):
            if not result.passed:
                said = f": {result.detail}" if result.detail else ""
                yield f"test {index + 1} of {len(run)}: {result.status}{said}"


def _scaled(limits: Limits, share: float) -> Limits:
    names = ("cpu_seconds", "wall_seconds", "total_seconds")
    return limits.model_copy(update={name: share * getattr(limits, name) for name in names})
