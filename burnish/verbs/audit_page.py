"""Files of an audit of code tasks: audit.jsonl with the result of each row, and audit.html to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from burnish.data.table_page import html_list, html_page, html_table
from burnish.errors import DataError
from burnish.grading.code_audit.findings import FindingKind, TaskAudit
from burnish.verbs.audit import AuditReport, write_lines

_MAX_ROWS = 500
"""Findings of each kind on the page; audit.jsonl has all."""
_TITLES = {
    FindingKind.UNUSABLE: "Rows that cannot be used",
    FindingKind.GOLD_FAILS: "Solutions that fail",
    FindingKind.FLAKY: "Solutions that fail sometimes",
    FindingKind.SLOW: "Solutions near the limits",
    FindingKind.ATTACK_PASSES: "Attacks that pass",
    FindingKind.ACCEPTS_WRONG: "Tests that accept wrong programs",
    FindingKind.NO_GOLD: "Rows without a solution",
    FindingKind.DEPENDS: "Tests that depend on time, random numbers, network or files",
}


def write_audit(report: AuditReport, folder: Path) -> tuple[Path, Path]:
    """Writes audit.jsonl and audit.html into a folder, and returns their paths.

    Raises:
        DataError: they cannot be written.
    """
    lines, page = folder / "audit.jsonl", folder / "audit.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(report, lines)
        page.write_text(audit_page(report), encoding="utf-8")
    except OSError as error:
        raise DataError(
            given=f"{folder} cannot be written: {error}", rule="--output is a folder", remedy="name another folder"
        ) from error
    return lines, page


def audit_page(report: AuditReport) -> str:
    """A self-contained HTML page: the counts, and a table of the findings of each kind."""
    tables = "".join(_tables(report))
    return html_page(f"Audit of {report.source}", html_list([*report.read, *report.summary()]) + tables)


def _tables(report: AuditReport) -> Iterator[str]:
    for kind in report.counts:
        rows = [row for audit in report.audits for row in _rows(audit, kind)]
        more = f" (the first {_MAX_ROWS:,} of {len(rows):,})" if len(rows) > _MAX_ROWS else ""
        yield html_table(f"{_TITLES[kind]}{more}", ("row", "finding"), rows[:_MAX_ROWS], prose=True)


def _rows(audit: TaskAudit, kind: FindingKind) -> Iterator[tuple[str, str]]:
    yield from ((audit.where, finding.detail) for finding in audit.findings if finding.kind is kind)
