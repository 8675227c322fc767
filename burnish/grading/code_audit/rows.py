"""Audit of many code tasks: reads tasks from rows, and audits several at a time.

Threads wait for the sandbox, so a slow program holds up its own task only. The result does not depend on their number.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from burnish.errors import RunError
from burnish.grading.code_audit.findings import CodeTask, Finding, FindingKind, TaskAudit
from burnish.grading.code_audit.settings import TaskAuditSettings
from burnish.grading.code_audit.task import audit
from burnish.rewards.code.program import program_of, stub_of
from burnish.rewards.code.reward import CodeReward, gold_program
from burnish.rewards.code.suites import first_tests, for_program, last_request, row_suite, used_names
from burnish.rewards.code.usual_imports import with_usual_imports
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import UnusableRow
from burnish.sandbox.base import Engine, Level, SandboxError
from burnish.sandbox.local import LocalEngine

_AHEAD = 8
"""Number of tasks that are read ahead for each thread."""


def code_task(reward: CodeReward, view: ResponseView, where: str) -> CodeTask | TaskAudit:
    """The task of a row, as the reward would grade its solution; a row without tests is a result at once.

    Args:
        reward: the reward, with its number of tests.
        view: the row, with any response.
        where: place of the row.
    """
    try:
        suite = row_suite(view, challenge=reward.challenge_tests)
    except UnusableRow as error:
        return unusable(where, str(error))
    given, gold = reward.known_good(view), gold_program(view.extra)
    if given is not None:
        names = used_names(suite)
        gold = program_of(given, "auto", names, stub_of(last_request(view), names)) or gold
    if gold is not None:
        suite, gold = for_program(suite, gold), with_usual_imports(gold, suite)
    return CodeTask(where, first_tests(suite, reward.max_tests), gold)


def unusable(where: str, reason: str) -> TaskAudit:
    """Result of a row that is no code task."""
    return TaskAudit(where, (Finding(FindingKind.UNUSABLE, reason),))


def audits(
    tasks: Iterable[CodeTask | TaskAudit],
    engines: Sequence[Engine],
    settings: TaskAuditSettings,
    *,
    seed: int = 0,
    workers: int | None = None,
) -> Iterator[TaskAudit]:
    """Yields the results of tasks, in their order.

    Args:
        tasks: tasks, and results that pass through.
        engines: see `task.audit`.
        settings: limits, and numbers of programs.
        seed: draws mutants and inputs.
        workers: number of tasks that are audited at a time; None: that of the cores.

    Raises:
        RunError: the sandbox failed.
    """
    threads = workers or len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[TaskAudit]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(_result, engines, task, settings, seed))
            if len(pending) >= _AHEAD * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _result(engines: Sequence[Engine], task: CodeTask | TaskAudit, settings: TaskAuditSettings, seed: int) -> TaskAudit:
    if isinstance(task, TaskAudit):
        return task
    try:
        return audit(engines, task, settings, seed)
    except SandboxError as error:
        raise RunError(
            given=f"{task.where}: the sandbox failed: {error}",
            rule="an audit needs a sandbox that works: its failures say nothing of a row",
            remedy="see whether the machine has memory left, or whether the server runs, and begin again; fewer "
            "--workers need less memory",
        ) from error


@contextmanager
def audit_engines(reward: CodeReward) -> Iterator[tuple[Engine, ...]]:
    """Context manager of the engines for `audits`: on this machine two, which hash text differently.

    Raises:
        UserError: this machine offers less isolation, or the server cannot be reached.
    """
    with ExitStack() as stack:
        if reward.engine != "local":
            from burnish.sandbox.sandbox_fusion import SandboxFusion  # a network client is needed for servers only

            yield (stack.enter_context(SandboxFusion(reward.engine)),)
            return
        level = Level.named(reward.isolation)
        yield tuple(stack.enter_context(LocalEngine(level, seed=seed)) for seed in (0, 1))
