"""All registered rewards, each with options and answers whose outcome is known: what `test_rewards` runs on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from burnish.rewards.response_view import ResponseView

ASKED = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"})
"""A prompt of messages; others are plain text."""


@dataclass(frozen=True, slots=True)
class RewardCase:
    """A reward with its answers."""

    answers: tuple[tuple[ResponseView, float | None], ...]
    """Answers with their outcomes; None: a number that is not known beforehand."""
    unusable: tuple[ResponseView, ...] = ()
    """Rows that lack what the reward needs; (): it needs nothing."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Options in the recipe that it cannot do without."""
    others: Mapping[str, object] = field(default_factory=dict)
    """Each of its options → another value, which may give another outcome."""
    excluded: Mapping[str, str] = field(default_factory=dict)
    """Options of `others` → the one of `options` beside which they are refused."""
    range: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest outcome by its documentation."""


def answer(text: str, reference: object = None, **extra: object) -> ResponseView:
    """To a prompt of plain text, in a row with these further columns."""
    return ResponseView("Well?", text, reference, extra)


def counted(num_tokens: int) -> ResponseView:
    """An answer of so many words and tokens."""
    return ResponseView("Well?", "so " * num_tokens, token_ids=(5,) * num_tokens)


NO_COMMA = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
ADD = "```python\ndef add(a, b):\n    return a + b\n```"
OBJECT = {"type": "object", "required": ["a"]}

CASES: Mapping[str, RewardCase] = {
    "math": RewardCase(
        answers=(
            (answer(r"So it is \boxed{4}.", "4"), 1.0),
            (answer(r"So it is \boxed{\frac{2}{4}}.", "1/2"), 1.0),
            (answer(r"So it is \boxed{5}.", "#### 4"), 0.0),
            (ResponseView(ASKED, "The answer is 4.", "4"), 1.0),
        ),
        unusable=(answer("4"), answer("4", ""), answer("4", ["4"])),
        others={"forms": ["boxed"]},
    ),
    "exact": RewardCase(
        answers=((answer(" hi\n", "hi"), 1.0), (answer("Hi", "hi"), 0.0)),
        unusable=(answer("hi"), answer("hi", " ")),
    ),
    "normalized": RewardCase(
        answers=(
            (answer("The Paris!", "paris"), 1.0),
            (answer("Rome", ["Paris", "rome"]), 1.0),
            (answer("a", "b"), 0.0),
        ),
        unusable=(answer("Paris"), answer("Paris", [])),
    ),
    "regex": RewardCase(
        answers=((answer("aaa", "a+"), 1.0), (answer("aab", "a+"), 0.0)),
        unusable=(answer("aaa"), answer("aaa", "(")),
        others={"pattern": "a*", "match": "search"},
    ),
    "choice": RewardCase(
        answers=((answer("The answer is (B).", "B"), 1.0), (answer("A or B", "B"), 0.0)),
        unusable=(answer("B"), answer("B", "Paris")),
        others={"letters": "ABC"},
    ),
    "number": RewardCase(
        answers=((answer("The answer is 1,200.", 1200), 1.0), (answer("The answer is 1,201.", "1200"), 0.0)),
        unusable=(answer("4"), answer("4", "many")),
        others={"absolute": 0.5, "relative": 0.1, "forms": ["boxed"]},
    ),
    "code": RewardCase(
        answers=(
            (answer(ADD, ["assert add(1, 2) == 3"], code="def add(a, b):\n    return a + b"), 1.0),
            (answer(ADD.replace("+", "-"), None, tests=["assert add(1, 2) == 3"]), 0.0),
            (answer("I do not know.", None, tests=[{"input": "1", "output": "1"}]), 0.0),
            (answer("print(input())", None, tests=[{"input": "1", "output": "1"}]), 1.0),
        ),
        unusable=(answer(ADD), answer(ADD, ["assert add("]), answer(ADD, None, tests=[{"input": "1"}])),
        options={"isolation": "process"},
        others={
            "score_by": "share",
            "extract": "answer",
            "isolation": "isolated",
            "limits": {"cpu_seconds": 2.0},
            "engine": "http://localhost:8080",
            "max_tests": 2,
            "challenge_tests": True,
        },
        excluded={"engine": "isolation"},
    ),
    "json_schema": RewardCase(
        answers=((answer('{"a": 1}', schema=OBJECT), 1.0), (answer('{"b": 1}', schema=OBJECT), 0.0)),
        unusable=(answer("{}"), answer("{}", schema={"type": 3}), answer("{}", schema="{")),
        others={"schema": {"type": "array"}, "column": "form"},
    ),
    "instructions": RewardCase(
        answers=((answer("Hello to you", **NO_COMMA), 1.0), (answer("Hello, you", **NO_COMMA), 0.0)),
        unusable=(
            answer("Hello"),
            answer("Hello", instruction_id_list=[]),
            answer("Hello", instruction_id_list=["no:such"], kwargs=[{}]),
        ),
        others={"score_by": "share"},
    ),
    "format": RewardCase(
        answers=((answer("<think>Easy.</think> 4"), 1.0), (answer("<think>Easy. 4"), 0.0)),
        others={"tags": ["think", "answer"]},
    ),
    "overlong": RewardCase(
        answers=((counted(4), 0.0), (counted(6), -0.5), (counted(9), -1.0)),
        unusable=(answer("so so"),),
        options={"max_length": 8, "buffer": 4},
        others={"max_length": 9, "buffer": 3, "unit": "words"},
        range=(-1.0, 0.0),
    ),
    "length": RewardCase(
        answers=((counted(4), 1.0), (counted(6), 0.5), (counted(9), 0.0)),
        unusable=(answer("so so"),),
        options={"target": 4, "tolerance": 4},
        others={"target": 5, "tolerance": 3, "unit": "words"},
    ),
    "repetition": RewardCase(
        answers=((answer("a b c d e"), 0.0), (answer("a b c d a b c d"), -0.2)),
        others={"n": 2},
        range=(-1.0, 0.0),
    ),
    "reward_model": RewardCase(
        answers=tuple((ResponseView(ASKED, text), None) for text in ("4", "It is 5.", "")),
        unusable=(ResponseView("", ""), ResponseView(ASKED, "so " * 2000)),
        options={"model": "one"},
        others={
            "model": "two",
            "output": "taste",
            "weights": {"taste": 1.0},
            "rerender": True,
            "tokens_per_microbatch": 64,
        },
        range=(-math.inf, math.inf),
    ),
    "process_reward_model": RewardCase(
        answers=(
            *((ResponseView(ASKED, text), None) for text in ("4", "<think>\n2 + 2 = 4\n</think>\n4")),
            (ResponseView(ASKED, "\n"), 0.0),
        ),
        unusable=(ResponseView("", "4"), ResponseView(ASKED, "so " * 2000)),
        options={"model": "steps"},
        others={
            "model": "steps-two",
            "aggregation": "mean",
            "credit": "step",
            "probability": False,
            "separator": ".",
            "rerender": True,
            "tokens_per_microbatch": 64,
        },
    ),
}
"""Name of a registered reward → its case. The model of a reward model is a folder that the suite writes."""

STRANGE = tuple(
    ResponseView("Well?", text, reference, extra)
    for text in ("", " \n", "<think>", "\x00\u200b\ufffd\U0001f600", "4 " * 3000, r"\boxed{", "[" * 3000)
    for reference, extra in ((None, {}), ("4", NO_COMMA | {"schema": OBJECT}))
)
"""Answers as models write them now and then, to rows with a reference and without."""
