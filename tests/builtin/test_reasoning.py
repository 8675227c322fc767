"""Sums in steps: solutions that compute, mistakes that are found another way, and splits that share nothing."""

from __future__ import annotations

import re
from itertools import islice, permutations
from typing import Any

import pytest

from burnish.builtin.arithmetic import Problem
from burnish.builtin.reasoning import MAX_TOTAL, Chain, Solution, reasoning, solutions, solve
from burnish.builtin.sets import builtin_rows
from burnish.rewards.steps import step_ends


def terms(text: str) -> tuple[int, ...]:
    """The numbers of a chain with their signs, in a question or a line."""
    found = re.findall(r"([-+] )?(\d+)", text)
    return tuple(-int(number) if sign == "- " else int(number) for sign, number in found)


def operation(line: str) -> Problem:
    """The operation of a line."""
    first, second = terms(line.partition(" = ")[0])
    return Problem(first, "-" if second < 0 else "+", abs(second))


def first_wrong(question: str, steps: list[str]) -> int | None:
    """The first step that does not apply the next number of the question to the last result, rightly."""
    first, *others = terms(question)
    total, left = first, list(others)
    for index, step in enumerate(steps):
        line = step.removeprefix("<think>\n")
        if line.startswith("</think>\n"):
            return None if not left and line == f"</think>\n{total}" else index
        if not left:
            return index
        operation, _, result = line.partition(" = ")
        term = left.pop(0)
        if terms(operation) != (total, term) or int(result) != total + term:
            return index
        total += term
    raise AssertionError("the last step is the answer")


def test_a_solution_by_hand():
    solution = solve(Chain((14, 5, -9)))
    assert solution == Solution(("14 + 5 = 19", "19 - 9 = 10"), "10")
    assert solution.text == "<think>\n14 + 5 = 19\n19 - 9 = 10\n</think>\n10"
    assert solution.steps == ("<think>\n14 + 5 = 19", "19 - 9 = 10", "</think>\n10")
    assert Solution(solution.lines, "11", first_wrong=2).labels == (True, True, False)


@pytest.mark.parametrize("use", ["train", "rl", "test"])
def test_solutions_are_right(use):
    for each in islice(reasoning(use, 0), 1000):
        assert each.answer == each.solution.answer == str(sum(terms(each.question)))
        assert first_wrong(each.question, list(each.solution.steps)) is None
        assert all(each.solution.labels)


@pytest.mark.parametrize("use", ["rl", "test"])
def test_labels_end_where_a_solution_goes_wrong(use):
    rows = list(islice(solutions(use, 0), 2000))
    for each in rows:
        wrong, steps = first_wrong(each.question, list(each.solution.steps)), len(each.solution.steps)
        assert each.solution.first_wrong == wrong
        assert each.solution.labels == tuple(index < (steps if wrong is None else wrong) for index in range(steps))
        assert (each.solution.answer == each.answer) == (wrong is None), "a mistake never ends in the right answer"
    flawed = [each for each in rows if each.solution.first_wrong is not None]
    assert 0.45 < len(flawed) / len(rows) < 0.55
    assert {each.solution.first_wrong for each in flawed} >= {0, 1, 2, 3}


def test_numbers_stay_small():
    for each in islice(reasoning("train", 1), 1000):
        given = terms(each.question)
        assert 3 <= len(given) <= 4
        assert all(0 <= sum(given[:count]) <= MAX_TOTAL for count in range(1, len(given) + 1))


def test_every_order_of_a_chain_has_the_same_use():
    for numbers in ((3, 5, 9), (12, -4, 7), (1, 2, 3, 4)):
        orders = [Chain(order) for order in permutations(numbers) if order[0] > 0]
        assert len({chain.use for chain in orders}) == 1


def questions(name: str, split: str, seed: int) -> list[str]:
    rows: list[dict[str, Any]] = builtin_rows(name, split, count=900, seed=seed)
    return [
        row["question"] if "question" in row else (row.get("prompt") or row["messages"])[0]["content"] for row in rows
    ]


def test_no_chain_or_operation_is_in_two_splits_that_should_differ():
    """Over seeds and sets: tests share no chain with training, in no order. No operation that is kept for tests is in
    training, and fine-tuning has none that is kept for reinforcement learning."""
    chains = {
        (name, split): {tuple(sorted(terms(text))) for seed in range(3) for text in questions(name, split, seed)}
        for name in ("reasoning", "reasoning-math", "steps")
        for split in ("train", "test")
    }
    trained = set().union(*(found for (_, split), found in chains.items() if split == "train"))
    tested = set().union(*(found for (_, split), found in chains.items() if split == "test"))
    assert len(tested) > 300
    assert not trained & tested
    for source, allowed in (
        (reasoning("train", 0), {"train"}),
        (reasoning("rl", 0, "reasoning-math"), {"train", "rl"}),
        (solutions("rl", 0), {"train", "rl"}),
    ):
        right = (solve(Chain(terms(each.question))) for each in islice(source, 500))
        assert {operation(line).use for solution in right for line in solution.lines} == allowed


def test_reinforcement_learning_has_chains_of_its_own():
    fine_tuned = {tuple(sorted(terms(text))) for text in questions("reasoning", "train", 0)}
    prompts = [tuple(sorted(terms(text))) for text in questions("reasoning-math", "train", 0)]
    assert sum(chain not in fine_tuned for chain in prompts) > 0.3 * len(prompts)


def test_steps_of_the_data_are_those_that_a_reward_finds():
    """A process reward model is read where it was trained: a tag alone is no step."""
    for row in builtin_rows("steps", count=200):
        ends = step_ends("\n".join(row["completions"]))
        sizes = [len(step) + 1 for step in row["completions"]]
        assert ends == tuple(sum(sizes[: index + 1]) - 2 for index in range(len(sizes)))
