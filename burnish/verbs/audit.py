"""Audit of the code tasks of a dataset (`burnish data audit`): solutions that fail, tests that accept wrong programs.

Rows are read as by the stage `rl`, and their tests as by the reward `code`. No model is needed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.settings import parse
from burnish.config.text import parse_overrides, put
from burnish.data.mixture import Data, open_data
from burnish.data.reading.content import new_file
from burnish.data.records import Task
from burnish.errors import DataError, RecipeError
from burnish.grading.code_audit.findings import CodeTask, FindingKind, TaskAudit, fault_lines
from burnish.grading.code_audit.rows import audit_engines, audits, code_task, unusable
from burnish.grading.code_audit.settings import TaskAuditSettings
from burnish.rewards.code.reward import MARGIN_SECONDS, CodeReward
from burnish.rewards.response_views import response_view
from burnish.settings.aliases import RENAMED
from burnish.settings.data import DatasetSettings, sources
from burnish.settings.numbers import Positive

_MAX_SHOWN = 10
"""Lines of findings that are printed; a report in a folder has all."""


class AuditSettings(DatasetSettings, TaskAuditSettings):
    """Settings of `burnish data audit`, given as key=value."""

    isolation: Literal["isolated", "restricted", "process"] = "isolated"
    """Level of isolation that is needed, as of the reward code; not for an engine on a server."""
    engine: str = "local"
    """Where programs run: local, or the URL of a SandboxFusion server."""
    max_tests: Positive | None = None
    """Number of tests of a row that are run, spread evenly; null: all."""
    challenge_tests: bool = False
    """Whether the harder tests of MBPP are tests too."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the rows that count draws, of mutants and of inputs."""
    workers: Positive | None = None
    """Number of rows that are audited at a time; null: that of the processor's cores."""

    @model_validator(mode="after")
    def _the_reward_takes_them(self) -> AuditSettings:
        _ = self.reward
        return self

    @property
    def reward(self) -> CodeReward:
        """The reward code with these settings."""
        options = {
            **({"isolation": self.isolation} if "isolation" in self.model_fields_set else {}),
            "engine": self.engine,
            "max_tests": self.max_tests,
            "challenge_tests": self.challenge_tests,
            "limits": self.limits,
            "timeout": self.limits.total_seconds + MARGIN_SECONDS,
        }
        return parse(CodeReward, options, {})


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Result of an audit. Prints as lines."""

    source: str
    read: tuple[str, ...]
    """What was read."""
    isolation: str
    """What the sandbox promised."""
    audits: tuple[TaskAudit, ...]
    """Result of each row, in their order."""

    @property
    def counts(self) -> Mapping[FindingKind, int]:
        """Number of rows with findings of each kind that occurs."""
        found = Counter(kind for audit in self.audits for kind in FindingKind if audit.has(kind))
        return {kind: found[kind] for kind in FindingKind if found[kind]}

    @property
    def attacked(self) -> bool:
        """Whether an attack passed."""
        return FindingKind.ATTACK_PASSES in self.counts

    def summary(self) -> Iterator[str]:
        """Lines with the counts."""
        each = self.audits
        tests, with_gold = (
            sum(audit.num_tests for audit in each),
            sum(not audit.has(FindingKind.NO_GOLD) for audit in each),
        )
        yield f"{len(each):,} rows, {with_gold:,} with a solution, {tests:,} tests (sandbox: {self.isolation})"
        for kind, count in self.counts.items():
            yield f"{kind}: {count:,} rows ({count / len(each):.1%})"
        killed, accepted = sum(audit.killed for audit in each), sum(audit.accepted for audit in each)
        equivalent, attacks = sum(audit.perhaps_equivalent for audit in each), sum(audit.attacks for audit in each)
        if killed + accepted:
            share = f"{killed / (killed + accepted):.1%} of {killed + accepted:,} are rejected, {accepted:,} accepted"
            yield f"wrong programs: {share}; {equivalent:,} more are perhaps equivalent to the solution"
        if attacks:
            passed = sum(finding.kind is FindingKind.ATTACK_PASSES for audit in each for finding in audit.findings)
            yield f"attacks on the tests: {passed:,} of {attacks:,} pass"
        yield f"{sum(audit.passes for audit in each):,} of {len(each):,} rows have no fault"

    def lines(self, max_shown: int = _MAX_SHOWN) -> Iterator[str]:
        """Lines of the report: what was read, counts, the first findings."""
        yield from self.read
        yield from self.summary()
        told = [line for audit in self.audits for line in fault_lines(audit)]
        yield from told[:max_shown]
        if len(told) > max_shown:
            yield f"  and {len(told) - max_shown:,} more"

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit with the rows that it read."""

    report: AuditReport
    data: Data
    """Rows in the order of the results."""

    def write_kept(self, output: Path, dropped: Collection[FindingKind]) -> int:
        """Writes the rows without findings of some kinds as JSON lines, and returns their number.

        Raises:
            DataError: the file exists, or cannot be written; or no row is left.
        """
        rows = self.data.parts[0].rows
        kept = [index for index, audit in enumerate(self.report.audits) if not any(audit.has(kind) for kind in dropped)]
        if not kept:
            raise DataError(
                given=f"--keep {output}: none of the {len(self.report.audits):,} rows is left",
                rule="a file of rows has at least one",
                remedy="drop fewer kinds of findings: --drop …",
            )
        _refuse_existing(output)
        lines = (json.dumps(dict(rows[index]), ensure_ascii=False).encode() + b"\n" for index in kept)
        _write(output, lines)
        return len(kept)


def audit(settings: AuditSettings, *, told: Callable[[int, int], None] = lambda done, total: None) -> Audited:
    """Audits the code tasks of a dataset.

    Args:
        settings: the data, its limits, and how thorough it is.
        told: gets the number of rows that are done, and of all.

    Raises:
        UserError: the data cannot be read, or the sandbox does not offer the isolation.
    """
    data = open_data(sources(settings), seed=settings.seed, stage="rl")
    reward = settings.reward
    results: list[TaskAudit] = []
    with audit_engines(reward) as engines:
        tasks = _tasks(data, reward)
        for result in audits(tasks, engines, settings, seed=settings.seed, workers=settings.workers):
            results.append(result)
            told(len(results), len(data.rows))
        level = engines[0].level
    isolation = "that of the server" if level is None else level.label
    return Audited(AuditReport(data.rows.source, tuple(data.lines()), isolation, tuple(results)), data)


def _tasks(data: Data, reward: CodeReward) -> Iterator[CodeTask | TaskAudit]:
    for index in range(len(data.rows)):
        where = data.rows.where(index)
        try:
            task = data.format.convert(data.rows[index])
        except DataError as error:
            yield unusable(where, error.given)
            continue
        if isinstance(task, Task):
            yield code_task(reward, response_view(task, ""), where)
        else:
            yield unusable(where, "the row is no prompt with tests")


def read_audit(given: Mapping[str, object], overrides: Sequence[str]) -> AuditSettings:
    """Reads the settings of an audit from flags and ``key=value``.

    Raises:
        RecipeError: an unknown key, or a wrong value.
    """
    data = {key: value for key, value in given.items() if value is not None}
    for key, value in parse_overrides(overrides).items():
        put(data, key, value)
    return parse(AuditSettings, data, {}, RENAMED)


def read_kinds(names: str) -> tuple[FindingKind, ...]:
    """Kinds of findings of a text such as ``gold_fails,flaky``.

    Raises:
        RecipeError: an unknown one.
    """
    given = [name.strip() for name in names.split(",") if name.strip()]
    known = {str(kind): kind for kind in FindingKind}
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None or not given:
        raise RecipeError(
            given=f"--drop {unknown or names!r}",
            rule="--drop names findings, with commas between them",
            remedy=f"choose from: {', '.join(known)}",
        )
    return tuple(known[name] for name in given)


def require_keep(keep: Path | None, drop: str | None) -> None:
    """Checks --keep and --drop before an audit, which may take long.

    Raises:
        UserError: the file exists, or rows are dropped from no file.
    """
    if keep is not None:
        _refuse_existing(keep)
    elif drop is not None:
        raise RecipeError(
            given=f"--drop {drop} without --keep",
            rule="--drop names the rows that the file of --keep does not get",
            remedy="add --keep FILE.jsonl",
        )


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise DataError(f"{output} exists", "--keep never overwrites a file", "delete it, or name another")


def write_lines(report: AuditReport, output: Path) -> None:
    """Writes the result of each row as a JSON line, atomically.

    Raises:
        DataError: it cannot be written.
    """
    _write(output, (json.dumps(asdict(audit), ensure_ascii=False).encode() + b"\n" for audit in report.audits))


def _write(output: Path, lines: Iterator[bytes]) -> None:
    try:
        with new_file(output) as file:
            file.writelines(lines)
    except OSError as error:
        raise DataError(
            given=f"{output} cannot be written: {error.strerror or os.strerror(error.errno or 0)}",
            rule="the output is a file in a folder that can be written",
            remedy="name another output",
        ) from error
