"""Check of a stage `rl` with the reward `code`: solutions pass, and tests reject wrong programs. Needs no weights.

It is a small `burnish data audit`: fewer rows and fewer programs for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from burnish.checks.prompts import drawn_prompts, opened_prompts
from burnish.checks.subject import Subject
from burnish.checks.verdict import CheckResult, checked
from burnish.data.prompts import Prompts
from burnish.grading.code_audit.findings import FindingKind, TaskAudit, fault_lines
from burnish.grading.code_audit.rows import audit_engines, audits, code_task
from burnish.grading.code_audit.settings import TaskAuditSettings
from burnish.rewards.code.reward import CodeReward
from burnish.rewards.response_views import response_view

TASKS = 24
"""Number of rows, drawn by the seed."""
MUTANTS, REPEATS = 8, 2
"""Mutants of each solution, and runs of it."""
MAX_FAULTY = 0.1
"""Largest share of rows whose solution fails, fails sometimes or is slow, or whose tests cannot be run."""
MAX_UNSPECIFIC = 0.5
"""Largest share of rows whose tests accept a wrong program."""
_FAULTY = (FindingKind.UNUSABLE, FindingKind.GOLD_FAILS, FindingKind.FLAKY, FindingKind.SLOW)
_MAX_SHOWN = 8


def code_tasks_are_sound(subject: Subject) -> CheckResult:
    """Solutions of the rows pass each time and in time; tests reject mutants, constants and attacks."""
    data = opened_prompts(subject)
    rewards = [reward for reward in data.judge.rewards if isinstance(reward, CodeReward)]
    if not rewards:
        return CheckResult(None, "no reward runs programs")
    results = [result for reward in rewards for result in _audited(reward, data.train, subject.recipe.seed)]
    if not results:
        return CheckResult(None, "the reward code grades no row of the sample")
    return judged(results)


def _audited(reward: CodeReward, prompts: Prompts, seed: int) -> Iterator[TaskAudit]:
    """Results of the rows of the sample that the reward grades."""
    where = prompts.preparation.builder.rows.where
    views = [(response_view(prompt.task, ""), where(prompt.row)) for prompt in drawn_prompts(prompts, seed, TASKS)]
    tasks = [code_task(reward, view, place) for view, place in views if reward.applies(view)]
    settings = TaskAuditSettings(limits=reward.limits, repeats=REPEATS, mutants=MUTANTS)
    if tasks:
        with audit_engines(reward) as engines:
            yield from audits(tasks, engines, settings, seed=seed)


def judged(results: Sequence[TaskAudit]) -> CheckResult:
    """Result of the check for the results of the rows."""
    counts = Counter(kind for result in results for kind in FindingKind if result.has(kind))
    faulty = sum(any(result.has(kind) for kind in _FAULTY) for result in results)
    unspecific, attacked = counts[FindingKind.ACCEPTS_WRONG], counts[FindingKind.ATTACK_PASSES]
    with_gold = len(results) - counts[FindingKind.NO_GOLD]
    passed = not attacked and faulty <= MAX_FAULTY * len(results) and unspecific <= MAX_UNSPECIFIC * len(results)
    remedy = (
        "an attack passes: the tests check nothing, or the sandbox is broken; look at the row"
        if attacked
        else "burnish data audit DATA --keep FILE.jsonl writes the rows without these faults"
    )
    lines = [line for result in results for line in fault_lines(result)]
    return checked(
        passed,
        f"{len(results)} rows, {with_gold} with a solution: {faulty} faulty (at most {MAX_FAULTY:.0%}), {unspecific} "
        f"accept a wrong program (at most {MAX_UNSPECIFIC:.0%}), {attacked} an attack (none)",
        remedy,
        "\n".join(lines[:_MAX_SHOWN]),
    )
