"""Verdicts on real solutions: GSM8K's, whose verdicts are published, and MATH-500's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.rewards.mathematics import MathReward, is_correct
from burnish.rewards.response_view import ResponseView

SHARED = Path(__file__).parents[3] / "shared" / "data"
SOLUTIONS = SHARED / "gsm8k" / "example_model_solutions.jsonl"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.skipif(not SOLUTIONS.is_file(), reason="GSM8K is not here")
def test_gsm8k_verdicts_are_the_published_ones() -> None:
    """5276 solutions of four models; docs/rewards.md lists those that differ: none."""
    differ = []
    for place, row in enumerate(_rows(SOLUTIONS)):
        for model in MODELS:
            known = row[model]
            assert isinstance(known, dict)
            answer = ResponseView(str(row["question"]), known["solution"], reference=row["ground_truth"])
            if MathReward().score(answer) != known["is_correct"]:
                differ.append((place, model))
    assert differ == []


@pytest.mark.skipif(not SOLUTIONS.is_file(), reason="GSM8K is not here")
def test_gsm8k_references_are_right_for_themselves_and_wrong_for_others() -> None:
    rows = _rows(SHARED / "gsm8k" / "test.jsonl")
    finals = [str(row["answer"]).rpartition("#### ")[2] for row in rows]
    for row, own, other in zip(rows, finals, [*finals[1:], finals[0]], strict=True):
        question = str(row["question"])
        for said in (f"#### {own}", f"\\boxed{{{own}}}", f"The answer is ${own}."):
            assert MathReward().score(ResponseView(question, said, reference=row["answer"]))
        if own != other:
            assert not MathReward().score(ResponseView(question, f"#### {other}", reference=row["answer"]))


MATH = SHARED / "math500" / "math_test.jsonl"


@pytest.mark.skipif(not MATH.is_file(), reason="MATH-500 is not here")
def test_math500_references_and_solutions_are_right() -> None:
    wrong = []
    for row in _rows(MATH):
        answer, problem = str(row["answer"]), str(row["problem"])
        for said in (f"\\boxed{{{answer}}}", f"So the answer is ${answer}$.", str(row["solution"])):
            if not MathReward().score(ResponseView(problem, said, reference=answer)):
                wrong.append((row["unique_id"], said[:40]))
    assert wrong == []


@pytest.mark.skipif(not MATH.is_file(), reason="MATH-500 is not here")
def test_math500_references_are_wrong_for_the_next_problem() -> None:
    """A third of the problems."""
    rows = _rows(MATH)[::3]
    answers = [str(row["answer"]) for row in rows]
    taken: list[tuple[str, str]] = []
    for row, own, other in zip(rows, answers, [*answers[1:], answers[0]], strict=True):
        if own != other and is_correct(other, own, str(row["problem"])):
            taken.append((other, own))
    assert taken == []


SAME = {
    r"\frac{\sqrt{3}}{3}": r"\frac{1}{\sqrt{3}}",
    r"11\sqrt5+11": r"11(1+\sqrt{5})",
    r"x^3+3x-6": "3x - 6 + x^3",
    "1,-2": "-2, 1",
    r"1 \pm \sqrt{19}": r"1-\sqrt{19}, 1+\sqrt{19}",
    r"(-\infty, 2) \cup (3, \infty)": r"(3,\infty)\cup(-\infty,2)",
    r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}": r"\begin{pmatrix} -\frac13 \\ \frac{2}{3} \end{pmatrix}",
    "x=5": "5",
    "5": "x = 5",
    r"x \in [-2,7]": "[-2,7]",
    r"\text{(C)}": "C",
    r"\text{Evelyn}": "Evelyn",
    "6 - 5i": "-5i+6",
    r"\left( 3, \frac{\pi}{2} \right)": r"(3, \pi/2)",
    "y = 2x + 3": "2x + 3 = y",
    r"2\sqrt{2}": r"\sqrt{8}",
    "2^{10}": "1024",
    "4210_{5}": "4210_5",
    r"\{1\pm\sqrt{5},-2\}": r"\{-2, 1+\sqrt5, 1-\sqrt5\}",
    "5x - 7y + 11z + 4 = 0": "-5x+7y-11z-4=0",
    r"\left(\frac{3}{5},\frac{8}{3}\right]": "(0.6, 8/3]",
    "14": "7*2 = 14",
    "0.5": r"\frac{1}{2}",
    r"90^\circ": "90 degrees",
    r"288 \pi": "288π",
}


SAID = {
    "The answer is 18, which is what she makes.": "18",
    "The answer is 18 because 9 * 2 = 18.": "18",
    "So the final answer is: **18**.": "18",
    "Answer: $18": "18",
    "The answer is:\n$$18$$": "18",
    "16 - 3 - 4 = 9, and 9 * 2 = 18": "18",
    "She makes 18 dollars. #### 18": "18",
    "12 plus 6 is 18.": "18",
    "First \\boxed{18}, and so \\boxed{18.0}": "18",
    "It is -18.": "-18",
    "Now Ann has 5 apples.": "Now Ann has 5 apples.",
    "5": "Now Ann has 5 apples.",
    "12 plus 6 is 18": "12 + 6 = 18",
}


@pytest.mark.parametrize("said", SAID)
def test_what_people_say_is_understood(said: str) -> None:
    assert MathReward().score(ResponseView("How many dollars does she make?", said, reference=SAID[said]))


@pytest.mark.parametrize("reference", SAME)
def test_the_same_answer_in_another_form_is_right(reference: str) -> None:
    assert is_correct(SAME[reference], reference)
