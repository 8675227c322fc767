"""Rewards as a user writes them, good and bad; the tests name them ``nursery.py:name``."""

from __future__ import annotations

import ctypes
import os
import random
import sys
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np


def mischief(answer):
    """Does what the answer says."""
    said = answer.text
    if said == "hang":
        threading.Event().wait()  # for ever
    if said == "hang in C":
        return len(bin(7 ** (10**8)))  # no thread of Python runs meanwhile
    if said == "exit":
        os._exit(0)
    if said == "exit 3":
        sys.exit(3)
    if said == "crash":
        ctypes.string_at(0)
    if said == "raise":
        raise KeyError("a column")
    if said == "unreachable":
        raise ConnectionRefusedError("nobody listens")
    if said == "much memory":
        raise MemoryError
    if said == "print":
        print('{"part": 0, "outcomes": [1.0]}')
        return 0.5
    return GIVEN.get(said, 0.25)


GIVEN = {
    "nothing": None,
    "true": True,
    "false": False,
    "integer": 3,
    "decimal": Decimal("0.5"),
    "numpy": np.float32(0.5),
    "numpy bool": np.bool_(True),
    "array of one": np.array(0.5),
    "fraction": Fraction(1, 2),
    "NaN": float("nan"),
    "infinity": -np.inf,
    "text": "1",
    "list": [1.0],
    "complex": 1j,
    "array of two": np.array([1.0, 2.0]),
    "huge": 10**400,
}


def lengths(completions, **columns):
    """TRL's signature."""
    return [float(len(each)) for each in completions]


def conversational(prompts, completions):
    """TRL's signature, with messages."""
    turns = zip(prompts, completions, strict=True)
    return [float(asked[-1]["role"] == "user") + len(said[0]["content"]) for asked, said in turns]


def draws(answer):
    """As a judge of moods would."""
    return random.random()


def right(completions, answer, level):
    """Takes columns by name."""
    return [float(said == wanted) * much for said, wanted, much in zip(completions, answer, level, strict=True)]


def tokens(completion_ids, completions):
    return [float(len(each)) for each in completion_ids]


async def later(completions, **columns):
    return [1.0 for _ in completions]


def some(completions, **columns):
    """Judges only what has letters."""
    return [1.0 if each.isalpha() else None for each in completions]


def best(completions, **columns):
    """Compares the answers to a prompt."""
    longest = max(map(len, completions))
    return [float(len(each) == longest) for each in completions]


def short_list(completions, **columns):
    return [1.0] * (len(completions) - 1)


def no_list(completions, **columns):
    return 1.0


def needs_more(completions, missing_column):
    return [1.0 for _ in completions]


def strange(text):
    return 1.0


class Target:
    """Made with options."""

    def __init__(self, length):
        self.length = length

    def __call__(self, answer):
        return float(len(answer.text) == self.length)


class Beacon:
    """Says who it is through a named pipe, and hangs."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __call__(self, answer):
        with open(self.pipe, "w") as told:
            told.write(str(os.getpid()))
        threading.Event().wait()


class Silent:
    """Cannot be called."""


def has_torch(answer):
    return "torch" in sys.modules


def ends_with_five(answer):
    """Its own way to find the answer, which relies on the thought being in the text."""
    return _answer_in(answer.text).endswith("5")


def all_end_with_five(completions):
    return [_answer_in(messages[0]["content"]).endswith("5") for messages in completions]


def _answer_in(text):
    _, _, said = text.rpartition("</think>")
    return "" if "<think>" in said else said
