"""Ways to be paid by a mathematics verifier without having answered. None works."""

from __future__ import annotations

import pytest

from burnish.rewards.mathematics import MathReward
from burnish.rewards.response_view import ResponseView

HARD = "Compute $2^{10} - 5!$ and give the result in \\boxed{}."
EASY = "Janet has 16 eggs and sells 7 of them for $2 each. How many dollars does she make, 14 or 18?"
FACTOR = "Factor $x^2-1$."
EXPAND = "Simplify $(x+1)^2 - x^2$."

FOOLS: dict[str, tuple[str, str, str]] = {
    # name: (prompt, reference, response)
    "several boxes, one of them right": (EASY, "14", r"\boxed{12} \boxed{13} \boxed{14}"),
    "right box, then another": (EASY, "14", r"\boxed{14} or maybe \boxed{18}"),
    "two answers in one box": (EASY, "14", r"\boxed{14 \text{ or } 18}"),
    "or in a box": (EASY, "14", r"\boxed{14 or 18}"),
    "a list in a box": (EASY, "14", r"\boxed{12, 13, 14}"),
    "a set in a box": (EASY, "14", r"\boxed{\{12, 13, 14\}}"),
    "plus or minus": (EASY, "14", r"\boxed{\pm 14}"),
    "an interval that holds it": (EASY, "14", r"\boxed{[0, 100]}"),
    "an inequality that it fulfils": (EASY, "14", r"\boxed{x \le 14}"),
    "a contradiction": (EASY, "14", r"\boxed{18 = 14}"),
    "a chain of contradictions": (EASY, "14", r"\boxed{12=13=14}"),
    "all numbers listed": (EASY, "14", ", ".join(map(str, range(15)))),
    "all numbers with or": (EASY, "14", " or ".join(map(str, range(15)))),
    "all numbers, line by line": (EASY, "14", "\n".join(map(str, range(15)))),
    "a hedge in words": (EASY, "14", "The answer is 18 or 14"),
    "a hedge with maybe": (EASY, "14", "The answer is maybe 14"),
    "a denial": (EASY, "14", "The answer is not 14"),
    "a denial in a box": (EASY, "14", r"\boxed{\text{not } 14}"),
    "a denial behind": (EASY, "14", r"\boxed{14 \text{ is wrong}}"),
    "about": (EASY, "14", "The answer is approximately 14"),
    "the prompt repeated": ("Is it 18 or is it 14?", "14", "Is it 18 or is it 14?"),
    "the prompt repeated within talk": (EASY, "14", f"You ask: \n{EASY}\nA good question!"),
    "an example of the prompt repeated": (
        "Example: the final answer is \\boxed{14}. Now solve: 7 * 2",
        "14",
        "Example: the final answer is \\boxed{14}. Now solve: 7 * 2",
    ),
    "the short prompt repeated": ("8 - 4 = ?", "4", "8 - 4 = ?"),
    "the prompt's calculation": ("8 - 4 = ?", "4", "8 - 4"),
    "the prompt's calculation in words": ("What is 8 minus 4?", "4", "It is 8 minus 4."),
    "the prompt's numbers": ("8 - 4 = ?", "4", "8, 4"),
    "only thought": (EASY, "14", r"<think>\boxed{14}</think>"),
    "thinking never ends": (EASY, "14", r"<think>so it is \boxed{14}"),
    "thought right, said wrong": (EASY, "14", r"<think>\boxed{14}</think>The answer is 18"),
    "empty": (EASY, "14", ""),
    "an empty box": (EASY, "14", r"\boxed{}"),
    "an empty box after words": (EASY, "14", r"It is clear. \boxed{ }"),
    "an open box": (EASY, "14", r"\boxed{1"),
    "the question's operation": (HARD, "904", r"\boxed{2^{10} - 5!}"),
    "a sum that is right": (EASY, "14", r"\boxed{7 + 7}"),
    "a product that is right": (EASY, "14", r"\boxed{7 \cdot 2}"),
    "a power that is right": ("Compute 2^10.", "1024", r"\boxed{2^{10}}"),
    "a factorial that is right": ("Compute 5!.", "120", r"\boxed{5!}"),
    "a binomial that is right": ("How many?", "10", r"\boxed{\binom{5}{2}}"),
    "an integral that is right": ("Integrate.", "14", r"\boxed{\int_0^{14} 1 \, dx}"),
    "a sum sign that is right": ("Add.", "14", r"\boxed{\sum_{k=1}^{14} 1}"),
    "a limit that is right": ("Limit?", "14", r"\boxed{\lim_{x \to 14} x}"),
    "code that prints": (EASY, "14", "```python\nprint(14)\n```\n\\boxed{print(14)}"),
    "code that is run": (EASY, "14", r"\boxed{__import__('os')._exit(0)}"),
    "an object equal to all": (EASY, "14", r"\boxed{type('X', (), {'__eq__': lambda s, o: True})()}"),
    "not a number": (EASY, "14", r"\boxed{0/0}"),
    "infinity": (EASY, "14", r"\boxed{\infty}"),
    "a variable": (EASY, "14", r"\boxed{x}"),
    "a true statement": (EASY, "14", r"\boxed{14 = 14x/x}"),
    "a tower of powers": (EASY, "14", r"\boxed{9^{9^{9^{9}}}}"),
    "a tower against an expression": ("Root?", r"\sqrt{2}", r"\boxed{9^{9^{9^{9}}}}"),
    "a huge factorial": ("Root?", r"\sqrt{2}", r"\boxed{(10^9)!}"),
    "a huge exponent": ("Root?", r"\sqrt{2}", r"\boxed{3^{99999999}}"),
    "a huge literal": (EASY, "14", r"\boxed{1e999999999}"),
    "a very long answer": (EASY, r"\sqrt{2}", r"\boxed{" + "+".join(["x"] * 5000) + "}"),
    "many open braces": (EASY, "14", r"\boxed" + "{" * 5000),
    "a Cyrillic letter in the box": (EASY, "14", "\\b\u043exed{14} \\boxed{18}"),
    "digits of full width": (EASY, "14", "\\boxed{\uff11\uff14}"),
    "Arabic digits": (EASY, "14", "\\boxed{\u0661\u0664}"),
    "superscript digits": (EASY, "14", "\\boxed{\u00b9\u2074}"),
    "a mark without width in the number": (EASY, "14", "\\boxed{1\u200b4}"),
    "a mark that turns the direction": (EASY, "14", "\\boxed{\u202e41}"),
    "Cyrillic letters in words": ("Who?", r"\text{Ada}", "\\boxed{\\text{\u0410da}}"),
    "an anagram": ("Where?", r"\text{east}", r"\boxed{\text{seat}}"),
    "several words": ("Where?", r"\text{east}", r"\boxed{\text{east or west}}"),
    "several letters": ("Which?", r"\text{(C)}", r"\boxed{\text{A, B, C}}"),
    "the unfactored question": (FACTOR, "(x-1)(x+1)", r"\boxed{x^2-1}"),
    "the unfactored question, spaced": (FACTOR, "(x-1)(x+1)", r"\boxed{x^2 - 1}"),
    "the unsimplified question": (EXPAND, "2x+1", r"\boxed{(x+1)^2 - x^2}"),
    "the unsimplified question with a zero": (EXPAND, "2x+1", r"\boxed{(x+1)^2 - x^2 + 0 + 0 + 0}"),
    "a rounded root": ("Root?", r"\sqrt{2}", r"\boxed{1.414214}"),
    "a rounded fraction": ("Third?", r"\frac{1}{3}", r"\boxed{0.333333}"),
    "pi rounded": ("Pi?", r"\pi", r"\boxed{3.141593}"),
    "one digit off in a long number": ("Long?", "123456789012345678901", r"\boxed{123456789012345678902}"),
    "off by less than a float can hold": ("Long?", "0.1", r"\boxed{0.1000000000000000000001}"),
    "percent for a share": ("Share?", "0.25", r"\boxed{25\%}"),
    "another base": ("Octal?", "52_8", r"\boxed{52}"),
    "a tuple in another order": ("Point?", "(1,2)", r"\boxed{(2,1)}"),
    "more elements": ("All?", "3, 5, 7", r"\boxed{3, 5, 7, 9}"),
    "fewer elements": ("All?", "3, 5, 7", r"\boxed{3, 5}"),
    "an open end": ("Interval?", "[1,2)", r"\boxed{[1,2]}"),
    "one sign of two": ("Both?", r"1 \pm \sqrt{19}", r"\boxed{1 + \sqrt{19}}"),
    "two signs of one": ("One?", r"1 + \sqrt{19}", r"\boxed{1 \pm \sqrt{19}}"),
    "another variable": ("Line?", "y = 2x + 3", r"\boxed{y = 2z + 3}"),
    "always true": ("Line?", "y = 2x + 3", r"\boxed{0 = 0}"),
    "the number in a variable": (EASY, "14", r"\boxed{14x}"),
    "the number with a root": (EASY, "14", r"\boxed{14\sqrt{3}}"),
    "two hashes": (EASY, "14", "#### 18\n#### 14"),
    "hashes with a list": (EASY, "14", "#### 12, 13, 14"),
    "a box weaker than it seems": (EASY, "14", "The answer is 14. \\boxed{18}"),
    "a number within a word": (EASY, "14", "The answer is B14"),
    "a date": (EASY, "14", "The answer is 2014"),
    "a hedge after a semicolon": (EASY, "14", "The answer is 14; or 18"),
    "a list with semicolons": (EASY, "14", "The answer is 14; 18"),
    "a hedge in the next sentence": (EASY, "14", "The answer is 14. Or 18."),
    "a hedge in words in the unit": (EASY, "14", r"\boxed{14 \text{ alternatively 18}}"),
    "a number in words in the unit": (EASY, "14", r"\boxed{14 \text{ alternatively eighteen}}"),
    "a factor in words": (EASY, "14", "The answer is 14 times two"),
    "millions": (EASY, "14", "The answer is 14 million"),
    "below zero": (EASY, "14", "The answer is 14 degrees below zero"),
    "another root equated": ("Root?", r"\sqrt{2}", r"\boxed{\sqrt{3} = \sqrt{2}}"),
    "a chain of roots": ("Root?", r"\sqrt{2}", r"\boxed{x = \sqrt{3} = \sqrt{2}}"),
    "a logical or": ("Root?", r"\sqrt{2}", r"\boxed{\sqrt{2} \lor \sqrt{3}}"),
    "roots side by side": ("Root?", r"\sqrt{2}", r"\boxed{\sqrt{2} \quad \sqrt{3}}"),
    "roots in a list": ("Root?", r"\sqrt{2}", r"\boxed{\sqrt{2}, \sqrt{3}}"),
    "a root with words": ("Root?", r"\sqrt{2}", r"\boxed{\sqrt{2} \text{ alternatively } \sqrt{3}}"),
    "minus": (EASY, "14", r"\boxed{-14}"),
    "a decimal that begins so": (EASY, "14", r"\boxed{14.5}"),
}


@pytest.mark.parametrize("name", FOOLS)
def test_fool_is_not_paid(name: str) -> None:
    prompt, reference, response = FOOLS[name]
    assert MathReward().score(ResponseView(prompt, response, reference=reference)) is False


@pytest.mark.parametrize("name", FOOLS)
def test_the_same_question_can_be_answered(name: str) -> None:
    """Otherwise the test above could not fail."""
    prompt, reference, _ = FOOLS[name]
    for said in (f"\\boxed{{{reference}}}", f"<think>Hm.</think>The answer is ${reference}$."):
        assert MathReward().score(ResponseView(prompt, said, reference=reference)) is True
