"""Programming tasks: solutions pass their tests and nothing else does, splits share no task, bugs are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from tokenizers import Tokenizer

from burnish.builtin.code import BUGGY, NUM_TESTS, answers, code_tests, codings
from burnish.builtin.draw import Draw
from burnish.builtin.places import tiny_folder
from burnish.builtin.programs import KINDS, CodeTask, bugs_of, code_tasks, program, with_bugs
from burnish.builtin.sets import builtin_rows

TRAIN, TEST = ("train", "rl"), ("test",)


def function(source: str) -> Callable[[Any], Any]:
    space: dict[str, Any] = {}
    exec(source, space)
    return space["f"]


def passes(source: str, tests: list[dict[str, Any]]) -> bool:
    """Whether a program passes tests as a row has them, compared by value and type."""
    try:
        called = function(source)
        return all(repr(called(*test["args"])) == repr(test["expected"]) for test in tests)
    except (IndexError, TypeError, ValueError, ZeroDivisionError):
        return False


def row_tests(task: CodeTask) -> list[dict[str, Any]]:
    return [{"args": [argument], "expected": expected} for argument, expected in code_tests(task)]


def some_tasks(count: int) -> list[CodeTask]:
    """Tasks of all kinds, the same ones each time."""
    draw = Draw("tasks of tests")
    return [task for kind in KINDS for task in draw.some(code_tasks(kind), count)]


def task_of(wanted: str) -> CodeTask:
    return next(task for kind in KINDS for task in code_tasks(kind) if task.wanted == wanted)


@pytest.mark.parametrize(
    ("wanted", "argument", "expected"),
    [
        ("the sum of x*3 for every x in xs that is even", [1, 2, -4, 7], -6),
        ("a sorted list of x-1 for every x in xs with x>4", [9, 4, 5], [4, 8]),
        ("the largest of x+1 for every x in xs that is divisible by 3, or 0 if there is none", [1, 2], 0),
        ("a list of x for every x in xs with x<5", [5, 4, -1], [4, -1]),
        ("a list of x*x for every x from 1 to n that is odd", 5, [1, 9, 25]),
        ("n*2 if n>3, otherwise n+1", 3, 4),
        ("n-1 if n is divisible by 4, otherwise n*n", -8, -9),
        ("the last 3 characters of s, in capital letters, reversed", "baker", "REK"),
        ("the first word of s, repeated 2 times", "red owl", "redred"),
        ("the first character of s, with a ? at the end", "ox", "o?"),
    ],
)
def test_words_and_solution_agree(wanted: str, argument: Any, expected: Any) -> None:
    assert function(task_of(wanted).solution)(argument) == expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_solutions_pass_the_tests_of_their_rows(split: Any) -> None:
    for row in builtin_rows("code", split, count=400):
        tests = json.loads(json.dumps(row["tests"]))  # as a file has them
        assert {test["call"] for test in tests} == {row["entry_point"]} == {"f"}
        assert len(tests) == NUM_TESTS
        assert passes(str(row["solution"]), tests)


def test_every_task_has_tests() -> None:
    tasks = [task for kind in KINDS for task in code_tasks(kind)]
    assert {len(code_tests(task)) for task in tasks} == {NUM_TESTS}


def test_other_programs_fail() -> None:
    for task in some_tasks(20):
        tests = row_tests(task)
        argument = "xs" if task.kind == "list" else "s" if task.kind == "text" else "n"
        trivial = [argument, "None", "0", "[]", "''", *(repr(test["expected"]) for test in tests)]
        wrong = [*trivial, *task.flawed]
        assert not any(passes(program(task.kind, expression), tests) for expression in wrong)
        assert not passes("def f(x):\n    pass", tests)


def test_no_other_task_is_solved_by_a_solution() -> None:
    for task in some_tasks(2):
        tests = row_tests(task)
        solving = [other for other in code_tasks(task.kind) if passes(other.solution, tests)]
        assert solving == [task]


def test_there_are_thousands_of_tasks_and_their_parts_are_in_every_use() -> None:
    tasks = [task for kind in KINDS for task in code_tasks(kind)]
    assert len(tasks) > 2500
    assert len({task.wanted for task in tasks}) == len({task.expression for task in tasks}) == len(tasks)
    for kind in KINDS:
        words = {use: set() for use in ("train", "rl", "test")}
        for task in code_tasks(kind):
            words[task.use] |= set(task.wanted.replace(",", "").split())
        assert words["test"] <= words["train"]


def test_no_task_is_in_two_splits_and_chats_show_a_part() -> None:
    def expressions(source: Iterator[Any]) -> set[str]:
        return {item.task.expression for item in islice(source, 3000)}

    trained = expressions(codings("code", TRAIN, 0)) | expressions(codings("code", TRAIN, 1))
    tested = expressions(codings("code", TEST, 0)) | expressions(codings("code-chat", TEST, 2))
    shown = expressions(codings("code-chat", ("train",), 0))
    assert not (trained | shown) & tested
    assert shown < trained | {task.expression for kind in KINDS for task in code_tasks(kind) if task.use == "train"}
    assert len(trained - shown) > 300


def test_bugs_by_hand() -> None:
    task = task_of("the largest of x*x for every x in xs with x>4, or 0 if there is none")
    assert task.expression == "max((x*x for x in xs if x>4), default=0)"
    assert "max(x*2 for x in xs if x>=4)" in task.flawed
    assert len(task.flawed) == 7
    (bug,) = bugs_of("n+1 if n<3 else n*2")
    assert with_bugs("n+1 if n<3 else n*2", (bug,)) == "n+1 if n<=3 else n*2"
    assert bugs_of("n+1") == ()
    assert with_bugs("n+1", ()) == "n+1"


def test_answers_have_bugs_as_often_as_asked() -> None:
    right = {task.solution: task for kind in KINDS for task in code_tasks(kind)}
    plain = list(islice(answers(("train",), 0, buggy=0), 300))
    assert all(answer in right for _, answer in plain)
    always = list(islice(answers(("train",), 0, buggy=1), 300))
    assert [question for question, _ in always] == [question for question, _ in plain]
    for (_, with_all), (_, without) in zip(always, plain, strict=True):
        expression = right[without].expression
        assert with_all == program(right[without].kind, with_bugs(expression, bugs_of(expression)))
    share = sum(answer != without for (_, answer), (_, without) in zip(answers(("train",), 0), plain, strict=False))
    may = sum(bool(bugs_of(right[without].expression)) for _, without in plain)
    assert BUGGY * may * 0.85 < share < may


def test_chats_of_tests_have_right_answers() -> None:
    solutions = {task.solution for kind in KINDS for task in code_tasks(kind)}
    rows: list[dict[str, Any]] = builtin_rows("code-chat", "test", count=200)  # type: ignore[assignment]
    assert all(row["messages"][1]["content"] in solutions for row in rows)


def test_solutions_are_short() -> None:
    tokenizer = Tokenizer.from_file(str(tiny_folder() / "tokenizer.json"))
    tasks = [task for kind in KINDS for task in code_tasks(kind)]
    assert all(len(tokenizer.encode(task.solution).ids) <= 60 for task in tasks)
