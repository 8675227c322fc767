"""Programming tasks with tests that no other task's solution passes, and chats whose programs may have bugs.

Tasks are divided by their solution (`CodeTask.use`): held-out tasks are new combinations of parts that are known. Chats
for fine-tuning show half of the tasks, with bugs as people make them, so that reinforcement learning, which runs the
tests, has something to correct.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from burnish.builtin.arithmetic import Use
from burnish.builtin.draw import Draw
from burnish.builtin.programs import (
    KINDS,
    NUM_INPUTS,
    CodeKind,
    CodeTask,
    bugs_of,
    code_tasks,
    inputs,
    program,
    results,
    trivial,
    with_bugs,
)

NUM_TESTS = 6
"""Tests of a task."""
BUGGY = 0.5
"""Probability of each bug that an answer in a chat may have."""
_OPENINGS = ("Write {call}, which returns {wanted}.", "Define {call}, which returns {wanted}.")


@dataclass(frozen=True, slots=True)
class Coding:
    """Programming task with a question."""

    task: CodeTask
    question: str


def codings(name: str, uses: Sequence[Use], seed: int) -> Iterator[Coding]:
    """Endless tasks of these uses, a quarter of each kind."""
    draw = Draw(f"{name} {' '.join(uses)} {seed}")
    while True:
        task = draw.choice(_tasks(draw.choice(KINDS), tuple(uses)))
        yield Coding(task, draw.choice(_OPENINGS).format(call=task.signature, wanted=task.wanted))


def answers(uses: Sequence[Use], seed: int, buggy: float = BUGGY) -> Iterator[tuple[str, str]]:
    """Endless pairs of a question and a program.

    Args:
        uses: of the tasks.
        seed: of the draws.
        buggy: probability of each bug that the program may have; 0: all programs are right.
    """
    draw = Draw(f"code answers {' '.join(uses)} {seed}")
    for coding in codings("code-chat", uses, seed):
        right = coding.task.expression
        bugs = tuple(bug for bug in bugs_of(right) if draw.chance(buggy))
        yield coding.question, program(coding.task.kind, with_bugs(right, bugs))


@cache
def code_tests(task: CodeTask) -> tuple[tuple[Any, Any], ...]:
    """`NUM_TESTS` tests, as pairs of the argument and the result.

    Every other task of the kind, every program of `CodeTask.flawed`, the identity and all constants fail one of them.
    """
    draw, mine = Draw(f"code tests {task.expression}"), results(task.kind, task.expression)
    rivals = (*trivial(task.kind), *(results(task.kind, flawed) for flawed in task.flawed))
    for _ in range(10_000):
        chosen = draw.some(range(NUM_INPUTS), NUM_TESTS)
        if len({mine[at] for at in chosen}) > 2 and _num_passing(task.kind, mine, chosen) == 1:  # noqa: SIM102
            if all(any(other[at] != mine[at] for at in chosen) for other in rivals):
                return tuple((inputs(task.kind)[at], ast.literal_eval(mine[at])) for at in chosen)
    raise AssertionError(f"the inputs have {NUM_TESTS} that tell a task from all others: {task.expression}")


@cache
def _tasks(kind: CodeKind, uses: tuple[Use, ...]) -> tuple[CodeTask, ...]:
    return tuple(task for task in code_tasks(kind) if task.use in uses)


@cache
def _tasks_by_result(kind: CodeKind) -> tuple[dict[str, int], ...]:
    """For each input, result -> the tasks that have it, as bits."""
    tables: tuple[dict[str, int], ...] = tuple({} for _ in range(NUM_INPUTS))
    for number, task in enumerate(code_tasks(kind)):
        for table, result in zip(tables, results(kind, task.expression), strict=True):
            table[result] = table.get(result, 0) | (1 << number)
    return tables


def _num_passing(kind: CodeKind, expected: Sequence[str], chosen: Sequence[int]) -> int:
    """Number of tasks whose solution gives the expected results."""
    tables, passing = _tasks_by_result(kind), -1
    for at in chosen:
        passing &= tables[at][expected[at]]
    return passing.bit_count()
