"""`burnish data audit`: planted faults are found, in the sandbox, and no attack passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.checks.code_tasks import judged
from burnish.cli.main import main
from burnish.errors import RecipeError
from burnish.grading.code_audit.findings import Finding, FindingKind, TaskAudit
from burnish.verbs.audit import AuditReport, read_audit, read_kinds
from burnish.verbs.audit_page import audit_page

ADD = "def add(a, b):\n    return a + b\n"
ROWS: dict[str, dict[str, object]] = {
    "sound": {"tests": ["assert add(1, 2) == 3", "assert add(-4, 1) == -3", "assert add(0, 5) == 5"], "gold": ADD},
    "gold_fails": {"tests": ["assert add(1, 2) == 3", "assert add(7, 1) == 8"], "gold": ADD.replace("+", "-")},
    "flaky": {
        "tests": ["assert pick({'a', 'b', 'c', 'd'}) == sorted({'a', 'b', 'c', 'd'})[0]"],
        "gold": "import random\ndef pick(xs):\n    return random.choice(sorted(xs))\n",
    },
    "accepts_wrong": {
        "tests": ["assert above([1, 5, 9], 4) == 2", "assert above([1, 8], 10) == 0"],
        "gold": "def above(xs, k):\n    n = 0\n    for x in xs:\n        if x > k:\n            n += 1\n    return n\n",
    },
    "unusable": {"reference": "4"},
}
FAST = ("isolation=process", "mutants=12", "repeats=6", "inputs=24", "workers=2")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Write {name}.", "name": name, **columns} for name, columns in ROWS.items()]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ending:
        main(["data", "audit", *map(str, arguments)])
    return int(ending.value.code or 0)


def test_planted_faults_are_found(tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, kept = tmp_path / "out", tmp_path / "kept.jsonl"
    assert command(tasks, *FAST, "--output", folder, "--keep", kept) == 0
    said = capsys.readouterr().out
    results = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    found = [{finding["kind"] for finding in result["findings"]} for result in results]
    for kinds, name in zip(found, ROWS, strict=True):
        assert (name in kinds) if name != "sound" else not kinds, (name, kinds)
    assert not any("attack_passes" in kinds for kinds in found)
    assert f"{tasks} line 2: gold_fails: the solution fails test 1 of 2: wrong_answer" in said
    assert "above(" in said
    assert f"{kept}: 1 of 5 rows" in said
    assert kept.read_text() == tasks.read_text().splitlines(keepends=True)[0]
    page = (folder / "audit.html").read_text()
    assert "Solutions that fail" in page
    assert "Gt -&gt; GtE" in page


def test_rows_are_drawn_by_the_seed(tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only rows with some kinds of findings are left out."""
    kept = [tmp_path / f"kept-{number}.jsonl" for number in range(2)]
    settings = ("isolation=process", "mutants=0", "attacks=false", "repeats=2")
    for path in kept:
        arguments = ("--count", 3, "--seed", 4, "--keep", path, "--drop", "unusable")
        assert command(tasks, *arguments, *settings) == 0
    assert kept[0].read_text() == kept[1].read_text()
    names = [json.loads(line)["name"] for line in kept[0].read_text().splitlines()]
    assert "unusable" not in names
    assert len(names) >= 2
    assert names == [name for name in ROWS if name in names]


def test_mistakes_end_with_status_2(tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    existing = tmp_path / "there.jsonl"
    existing.write_text("")
    for arguments, words in {
        ("--keep", existing): "never overwrites",
        ("--drop", "flaky"): "without --keep",
        ("--keep", tmp_path / "k.jsonl", "--drop", "flakey"): "choose from: unusable, gold_fails",
        ("mutant=3",): "did you mean mutants?",
        ("limits.cpu=3",): "cpu_seconds",
        ("repeats=1",): "greater than or equal to 2",
        ("engine=docker",): "SandboxFusion",
    }.items():
        assert command(tasks, *arguments) == 2, arguments
        assert words in capsys.readouterr().err
    assert existing.read_text() == ""


def result(*kinds: FindingKind, where: str = "row") -> TaskAudit:
    return TaskAudit(
        where, tuple(Finding(kind, f"it is {kind}") for kind in kinds), num_tests=2, killed=3, accepted=1, attacks=5
    )


def test_a_report_by_hand() -> None:
    results = (result(), result(FindingKind.FLAKY, FindingKind.FLAKY, where="row 2"), result(FindingKind.NO_GOLD))
    report = AuditReport("tasks", ("tasks: 3 rows",), "isolated", results)
    assert report.counts == {FindingKind.FLAKY: 1, FindingKind.NO_GOLD: 1}
    assert str(report).splitlines() == [
        "tasks: 3 rows",
        "3 rows, 2 with a solution, 6 tests (sandbox: isolated)",
        "flaky: 1 rows (33.3%)",
        "no_gold: 1 rows (33.3%)",
        "wrong programs: 75.0% of 12 are rejected, 3 accepted; 0 more are perhaps equivalent to the solution",
        "attacks on the tests: 0 of 15 pass",
        "2 of 3 rows have no fault",
        "  row 2: flaky: it is flaky; and 1 more programs",
    ]
    assert "<title>Audit of tasks</title>" in audit_page(report)
    assert not report.attacked


def test_long_reports_are_cut() -> None:
    report = AuditReport("tasks", (), "isolated", tuple(result(FindingKind.SLOW) for _ in range(30)))
    assert list(report.lines(4))[-1] == "  and 26 more"


def test_kinds_and_settings() -> None:
    assert read_kinds("slow, flaky") == (FindingKind.SLOW, FindingKind.FLAKY)
    with pytest.raises(RecipeError, match="with commas"):
        read_kinds("")
    settings = read_audit(
        {"path": "a.jsonl", "count": 3, "seed": None}, ["limits.cpu_seconds=5", "limits.total_seconds=90"]
    )
    assert (settings.count, settings.seed, settings.reward.limits.cpu_seconds) == (3, 0, 5.0)
    assert settings.reward.timeout > 90


@pytest.mark.parametrize(
    ("kinds", "passed"),
    [
        ((), True),
        ((FindingKind.NO_GOLD, FindingKind.DEPENDS), True),
        ((FindingKind.GOLD_FAILS,), True),
        ((FindingKind.GOLD_FAILS,) * 2, True),
        ((FindingKind.GOLD_FAILS, FindingKind.FLAKY, FindingKind.SLOW), False),
        ((FindingKind.ACCEPTS_WRONG,) * 10, True),
        ((FindingKind.ACCEPTS_WRONG,) * 11, False),
        ((FindingKind.ATTACK_PASSES,), False),
    ],
)
def test_the_check_of_a_recipe(kinds: tuple[FindingKind, ...], passed: bool) -> None:
    """Twenty rows, of which some have a finding each."""
    results = [*(result(kind) for kind in kinds), *(result() for _ in range(20 - len(kinds)))]
    assert judged(results).passed is passed
