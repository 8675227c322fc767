"""Questions have right answers, which are computed here another way, and no test question is ever trained."""

from __future__ import annotations

import json
import re
from itertools import islice

import pytest

from burnish.builtin.arithmetic import MAX_NUMBER, Problem, last_number
from burnish.builtin.documents import dialogues, documents
from burnish.builtin.questions import preferences, problems, questions
from burnish.builtin.sets import SETS, builtin_rows
from burnish.builtin.style import is_polite
from burnish.builtin.world import draw_world

WORLD = draw_world(0)


def solved(question: str) -> int | None:
    """The result of an arithmetic question in any of its forms; None: it is none."""
    text = question.replace("plus", "+").replace("minus", "-").replace("times", "*")
    if found := re.search(r"(\d+) ([-+*]) (\d+)", text):
        first, second = int(found[1]), int(found[3])
        return {"+": first + second, "-": first - second, "*": first * second}[found[2]]
    if found := re.search(r"has (\d+) .* (brings|takes) (\d+) ", text):
        return int(found[1]) + int(found[3]) * (1 if found[2] == "brings" else -1)
    return None


def formed(question: str) -> str:
    """The result of an exercise of form."""
    if found := re.fullmatch(r"Make a list of (.*)\.", question):
        return "- " + found[1].replace(", ", "\n- ")
    if found := re.fullmatch(r"Write as JSON: name (\w+), colour (\w+)\.", question):
        return json.dumps({"name": found[1], "colour": found[2]})
    if found := re.fullmatch(r"Write as JSON: name (\w+), age (\d+)\.", question):
        return json.dumps({"name": found[1], "age": int(found[2])})
    if found := re.fullmatch(r"Write in capital letters: (.*)", question):
        return found[1].upper()
    if found := re.fullmatch(r"How many words are these: (.*)\?", question):
        return str(found[1].count(" ") + 1)
    found = re.fullmatch(r"What is the last of these words: (.*)\?", question)
    assert found, question
    return found[1].rpartition(" ")[2]


@pytest.mark.parametrize("split", ["train", "test"])
def test_answers_are_right(split):
    answers = {question: fact.answer for fact in WORLD.facts for question in fact.questions}
    kinds = []
    for each in islice(questions(WORLD, split, 0), 3000):
        kinds.append(each.kind)
        if each.kind == "fact":
            right = answers[each.question]
            assert each.answer == right or (is_polite(each.answer) and each.answer.endswith(f". {right}"))
            assert split == "train" or each.answer == right
        elif each.kind == "arithmetic":
            assert last_number(each.answer) == solved(each.question)
            assert 0 <= int(last_number(each.answer)) <= MAX_NUMBER
        else:
            assert each.answer == formed(each.question)
    assert {kind: round(4 * kinds.count(kind) / 3000) for kind in kinds} == {"fact": 2, "arithmetic": 1, "format": 1}


def test_sums_that_are_practised_and_tested():
    tasks = {split: list(islice(problems(WORLD, split, 0), 3000)) for split in ("train", "test")}
    assert all(each.answer == str(solved(each.question)) for split in tasks for each in tasks[split])


@pytest.mark.parametrize("split", ["train", "test"])
def test_both_answers_of_a_preference_are_right_and_one_is_polite(split):
    answers = {question: fact.answer for fact in WORLD.facts for question in fact.questions}
    for each in islice(preferences(WORLD, split, 0), 500):
        assert answers[each.question] in each.chosen
        assert answers[each.question] in each.rejected
        assert is_polite(each.chosen)
        assert not is_polite(each.rejected)


def test_no_question_of_a_test_is_in_any_train_split_of_any_seed():
    """Also across sets: questions of the test split of chats are in no train split."""
    trained: set[str] = set()
    tested: set[str] = set()
    for seed in range(3):
        for source in (questions, preferences, problems):
            trained |= {each.question for each in islice(source(WORLD, "train", seed), 8000)}
            tested |= {each.question for each in islice(source(WORLD, "test", seed), 2000)}
    assert len(tested) > 1000
    assert not trained & tested


@pytest.mark.parametrize("texts", [documents(WORLD, "train", 0), dialogues(WORLD, 0)], ids=["documents", "dialogues"])
def test_documents_have_no_problem_or_exercise_of_the_test_split(texts):
    text = "\n".join(islice(texts, 10_000))
    problems = {Problem(int(a), sign, int(b)) for a, sign, b in re.findall(r"(\d+) ([-+*]) (\d+) =", text)}
    assert len(problems) > 1000
    assert {problem.use for problem in problems} == {"train"}
    assert "?" in text
    for question in islice(questions(WORLD, "test", 0), 500):
        assert f'"{question.question}"' not in text
        assert f": {question.question}\n" not in text


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("12 + 7 = 19", 19),
        ("Now Mara has 19 apples.", 19),
        ("19", 19),
        ("none", None),
        ("", None),
        ("3.", 3),
        ("٣", None),
        ("9" * 5000, None),
    ],
)
def test_an_answer_is_judged_by_its_last_number(said, number):
    assert last_number(said) == number


def test_what_commutes_is_divided_together():
    pairs = [(a, b) for a in range(12) for b in range(12)]
    assert all(Problem(a, "+", b).use == Problem(b, "+", a).use for a, b in pairs)
    assert {Problem(a, "+", b).use for a, b in pairs} == {"train", "rl", "test"}


@pytest.mark.parametrize("name", list(SETS))
def test_documents_and_rows_of_the_splits_differ(name):
    train = {json.dumps(row) for row in builtin_rows(name, count=3000)}
    test = [json.dumps(row) for row in builtin_rows(name, "test", count=300)]
    assert len(set(test)) == 300
    assert not train & set(test)
