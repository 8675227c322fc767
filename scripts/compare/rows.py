"""Data files of the cases. Plain arithmetic, so every version of the code gets the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

NAMES = ("Ada", "Moss", "Edda", "Hugo", "Sela", "Milo")
TOWNS = ("Highmere", "Saffron Hill", "Birch End", "Low Ford")


def write_rows(folder: Path) -> None:
    """Writes every file that a case names into a folder."""
    for name, rows in (
        ("long", _long(24)),
        ("pairs", _pairs(24)),
        ("labelled", _labelled(24)),
        ("rankings", _rankings(24)),
        ("scores", _scores(24)),
        ("steps", _steps(24)),
    ):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def _name(number: int) -> str:
    return NAMES[number % len(NAMES)]


def _question(number: int) -> str:
    return f"{_name(number)} has {number + 2} pears and gets {number % 7 + 1} more. How many are there?"


def _sum(number: int) -> int:
    return number + 2 + number % 7 + 1


def _long(count: int) -> Iterable[Mapping[str, object]]:
    """Answers of about 230 to 450 tokens of the built-in model, whose rows have at most 512."""
    for number in range(count):
        steps = [
            f"{_name(number + step)} walks from {TOWNS[(number + step) % 4]} to {TOWNS[step % 4]} in {step + 3} days."
            for step in range(8 + number % 8)
        ]
        yield {"question": f"Tell the story of journey {number}.", "answer": " ".join(steps)}


def _pairs(count: int) -> Iterable[Mapping[str, object]]:
    """Pairs with a margin, and two tags."""
    for number in range(count):
        yield {
            "question": _question(number),
            "chosen": f"With pleasure. There are {_sum(number)} pears." + " Gladly." * (number % 3),
            "rejected": f"Count them. {_sum(number) + number % 2}",
            "margin": 0.5 * (number % 4),
            "tags": ["odd" if number % 2 else "even"],
        }


def _labelled(count: int) -> Iterable[Mapping[str, object]]:
    """Single answers, one of three of them not desired."""
    for number in range(count):
        right = number % 3 > 0
        answer = f"There are {_sum(number)} pears." if right else "Do not bother me."
        yield {"question": _question(number), "completion": answer, "label": right}


def _rankings(count: int) -> Iterable[Mapping[str, object]]:
    """Two to four answers, with scores."""
    answers = ("With pleasure. There are {} pears.", "There are {} pears.", "{}", "Pears, pears, {} pears.")
    for number in range(count):
        responses = [answer.format(_sum(number)) for answer in answers[: 2 + number % 3]]
        yield {
            "question": _question(number),
            "responses": responses,
            "scores": [4.0 - place - 0.1 * (number % 5) for place in range(len(responses))],
        }


def _scores(count: int) -> Iterable[Mapping[str, object]]:
    """Single answers with two scores."""
    for number in range(count):
        yield {
            "question": _question(number),
            "completion": f"There are {_sum(number)} pears." + " Gladly." * (number % 3),
            "correctness": float(number % 5),
            "verbosity": float(number % 3),
        }


def _steps(count: int) -> Iterable[Mapping[str, object]]:
    """Answers of two or three steps, each with a label."""
    for number in range(count):
        steps = [f"There were {number + 2}.", f"{number % 7 + 1} are new.", f"There are {_sum(number)}."]
        labels = [True, number % 2 == 0, number % 3 == 0]
        yield {
            "question": _question(number),
            "completions": steps[: 2 + number % 2],
            "labels": labels[: 2 + number % 2],
        }
