"""The same answer in many notations is right, another one in every notation is wrong: number, math, choice, matches."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from burnish.rewards.choice import ChoiceReward
from burnish.rewards.exact import ExactReward, NormalizedReward, NumberReward
from burnish.rewards.match import matches
from burnish.rewards.mathematics import MathReward
from burnish.rewards.response_view import ResponseView

INTEGERS = st.integers(-(10**7), 10**7)
NUMBERS: dict[str, Callable[[int], str]] = {
    "plain": str,
    "thousands": lambda n: f"{n:,}",
    "thousands in LaTeX": lambda n: f"{n:,}".replace(",", "{,}"),
    "decimal": lambda n: f"{n}.0",
    "fraction": lambda n: f"\\frac{{{n * 3}}}{{3}}",
    "display style": lambda n: f"\\displaystyle {n}",
    "units": lambda n: f"{n} \\text{{ apples}}",
    "named": lambda n: f"x = {n}",
    "calculated": lambda n: f"{n} + 0 = {n}",
    "power of ten": lambda n: f"{n}.0 \\times 10^{{0}}",
}
SAYINGS: dict[str, str] = {
    "box": "\\boxed{%s}",
    "box in mathematics": "So $\\boxed{%s}$ it is.",
    "hashes": "7 and so on\n#### %s",
    "phrase": "The answer is $%s$.",
    "phrase with units": "The answer is $%s$ apples.",
    "strong phrase": "**Answer:** %s",
    "tag": "<think>7</think><answer>%s</answer>",
    "after a thought": "<thinking>The answer is 7.</thinking>\n\\boxed{%s}",
    "corrected": "The answer is 7, no, $%s$.",
    "contrasted": "The answer is not 7 but $%s$.",
    "last number": "We add 7 and get $%s$ in the end.",
}
DENIALS = (
    "The answer is not %s.",
    "The answer isn't %s.",
    "I do not think the answer is %s.",
    "It is not %s.",
    "%s is wrong.",
    "The answer might be %s.",
    "Maybe the answer is %s.",
    "Is it %s?",
    "The answer is %s or 123456789.",
    "<think>The answer is %s.",
    "<think>%s</think>I do not know.",
)
PIECES = (
    "10^{%s}",
    "\\sqrt{%s}",
    "x_{%s}",
    "%sx",
    "(%s, y)",
    "f(%s)",
    "y + %s",
    "%s \\cdot y",
    "$%s!$",
    "1:%s",
    "y < %s",
)


def scores(response: str, reference: str) -> list[bool]:
    view = ResponseView("How many?", response, reference)
    return [bool(MathReward().score(view)), bool(NumberReward().score(view)), matches(response, reference, "number")]


@given(INTEGERS, st.sampled_from(sorted(NUMBERS)), st.sampled_from(sorted(SAYINGS)), st.sampled_from(sorted(NUMBERS)))
def test_a_number_in_any_notation_is_right(number: int, notation: str, saying: str, of_reference: str) -> None:
    response = SAYINGS[saying] % NUMBERS[notation](number)
    assert scores(response, NUMBERS[of_reference](number)) == [True] * 3, response


@given(INTEGERS, INTEGERS, st.sampled_from(sorted(NUMBERS)), st.sampled_from(sorted(SAYINGS)))
def test_another_number_in_any_notation_is_wrong(number: int, other: int, notation: str, saying: str) -> None:
    response = SAYINGS[saying] % NUMBERS[notation](number)
    assert scores(response, str(other)) == [number == other] * 3, response


@given(st.integers(0, 10**7), st.sampled_from(DENIALS))
def test_a_number_that_is_denied_or_hedged_is_wrong(number: int, saying: str) -> None:
    assert scores(saying % number, str(number)) == [False] * 3


@given(st.integers(2, 10**6), st.sampled_from(PIECES))
def test_no_number_is_cut_out_of_an_expression(number: int, expression: str) -> None:
    response = f"It is {expression % number}"
    assert scores(response, str(number)) == [False] * 3, response


@given(st.fractions(max_denominator=999), st.sampled_from(sorted(SAYINGS)))
def test_fractions_are_read_whole(fraction: Fraction, saying: str) -> None:
    over, under = fraction.numerator, fraction.denominator
    for written in (f"{over}/{under}", f"\\frac{{{over}}}{{{under}}}", f"\\dfrac{{{over}}}{{{under}}}"):
        assert scores(SAYINGS[saying] % written, f"{over}/{under}") == [True] * 3, written
        if under > 1:
            assert scores(SAYINGS[saying] % written, str(under)) == [False] * 3, written


CHOICES = (
    "%s",
    "(%s)",
    "**%s**",
    "%s. Paris",
    "\\boxed{%s}",
    "\\boxed{\\text{(%s)}}",
    "The answer is %s.",
    "The answer is (%s), since it is in France.",
    "**Answer:** %s",
    "Option %s is correct.",
    "I choose %s.",
    "%s is the right answer.",
    "The answer is not %s. The answer is %%s.",
    "Option %s is wrong, the answer is %%s.",
    "The answer is %%s rather than %s.",
    "The answer is %s. No, the answer is %%s.",
    "<think>The answer is %s.</think>The answer is %%s.",
)
REJECTIONS = ("Option %s is wrong.", "Option %s can be ruled out.", "The answer is not %s.", "Maybe the answer is %s.")
LETTERS = st.sampled_from("ABCDE")


@given(LETTERS, LETTERS, LETTERS, st.sampled_from(CHOICES))
def test_a_letter_is_right_in_any_layout_and_another_wrong(chosen: str, other: str, asked: str, layout: str) -> None:
    if chosen == other:
        return
    response = layout % other % chosen if "%%" in layout else layout % chosen
    assert bool(ChoiceReward().score(ResponseView("Which?", response, asked))) == (chosen == asked), response


@given(LETTERS, LETTERS, st.sampled_from(REJECTIONS))
def test_a_rejected_letter_is_never_chosen(letter: str, asked: str, saying: str) -> None:
    assert not ChoiceReward().score(ResponseView("Which?", saying % letter, asked))


@given(st.decimals(-1000, 1000, allow_nan=False, places=2), st.decimals(-1000, 1000, allow_nan=False, places=2))
def test_normalized_tells_numbers_apart(one: object, other: object) -> None:
    assert bool(NormalizedReward().score(ResponseView("?", f'"{one}"!', f"{other}"))) == (one == other)


@given(st.text(max_size=40), st.text(min_size=1, max_size=10))
def test_any_text_gets_a_verdict(text: str, reference: str) -> None:
    for response in (text, f"The answer is {text}", f"\\boxed{{{text}}}", f"Option {text}"):
        for reference_of in ("B", "5"):
            view = ResponseView("Which?", response, reference_of)
            kinds = (ChoiceReward,) if reference_of == "B" else (NumberReward, MathReward)
            assert all(kind().score(view) in (True, False) for kind in kinds)
        if reference.strip():
            assert ExactReward().score(ResponseView("Which?", response, reference)) in (True, False)
