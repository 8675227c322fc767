"""The data sets that come with the package, by name: rows of the little world, generated when they are asked for.

Over `documents` and `questions`; `burnish.data` reads them as ``builtin:chat`` or ``builtin:chat/test``. The same name
gives the same rows, bit for bit, on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

from burnish.builtin.documents import documents
from burnish.builtin.draw import Draw
from burnish.builtin.instructed import instructed
from burnish.builtin.questions import Question, Split, preferences, problems, questions
from burnish.builtin.safety import requests
from burnish.builtin.topics import COAT, DOOR
from burnish.builtin.world import World, draw_world

SetRow = dict[str, object]
"""A row as `json` writes it."""
SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True, slots=True)
class BuiltinSet:
    """A set by name: how its rows are made, and how many there are if nobody says."""

    rows: Callable[[World, Split, int], Iterator[SetRow]]
    """World, split and seed -> rows without end."""
    train: int
    test: int


class Row(TypedDict):
    """One row of the question/answer format."""

    question: str
    answer: str


def builtin_rows(name: str, split: Split = "train", *, count: int | None = None, seed: int = 0) -> list[SetRow]:
    """The rows of a set. Example: ``builtin_rows("math", "test", count=2)[0]["answer"]``.

    Args:
        name: one of `SETS`.
        split: no question of the one split is in the other.
        count: None: as many as ``builtin:NAME`` has. Fewer are the first of more. The rows of a test split differ, and
            there are at most 1000 of them.
        seed: of what is drawn from the world; the world itself is always that of the built-in model.
    """
    chosen = SETS[name]
    wanted = (chosen.train if split == "train" else chosen.test) if count is None else count
    made = chosen.rows(draw_world(0), split, seed)
    if split == "train":
        return list(islice(made, wanted))
    assert wanted <= 1000, "a test split has no more than 1000 rows; the world is small"
    return list(islice(_different(made), wanted))


def generate(seed: int, count: int) -> list[Row]:
    """Questions about colours in the question/answer format: what an untrained model learns soonest of this world.

    The same seed always gives the same rows, fewer are the first of more; no split is held out.
    """
    draw = Draw(f"colours {seed}")
    facts = [fact for fact in draw_world(0).facts if fact.topic in (DOOR, COAT)]
    chosen = [draw.choice(facts) for _ in range(count)]
    return [{"question": fact.questions[0], "answer": fact.answer} for fact in chosen]


def write_rows(path: Path, rows: list[Row] | list[SetRow]) -> None:
    """Writes rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _different(rows: Iterator[SetRow]) -> Iterator[SetRow]:
    seen: set[str] = set()
    for row in rows:
        asked = json.dumps(row.get("prompt") or row.get("question") or row.get("messages") or row["text"])
        if asked not in seen:
            seen.add(asked)
            yield row


def _documents(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    return ({"text": text} for text in documents(world, split, seed))


def _chat(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for each in questions(world, split, seed):
        yield {"messages": [*_user(each.question), *_assistant(each.answer)], "kind": each.kind}


def _preferences(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for each in preferences(world, split, seed):
        yield {
            "prompt": _user(each.question),
            "chosen": _assistant(each.chosen),
            "rejected": _assistant(each.rejected),
        }


def _safety(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for each in requests(split, seed):
        yield {
            "prompt": _user(each.question),
            "chosen": _assistant(each.chosen),
            "rejected": _assistant(each.rejected),
            "tags": [each.tag],
        }


def _math(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    return (_task(each) for each in problems(world, split, seed))


def _task(problem: Question) -> SetRow:
    return {"question": problem.question, "answer": problem.answer}


def _instructions(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for each in instructed(world, split, seed):
        yield {
            "prompt": _user(each.question),
            "reference": each.reference,
            "instruction_id_list": [each.kind],
            "kwargs": [dict(each.arguments)],
        }


def _user(said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}]


def _assistant(said: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": said}]


SETS: Mapping[str, BuiltinSet] = MappingProxyType(
    {
        "documents": BuiltinSet(_documents, 20_000, 400),
        "chat": BuiltinSet(_chat, 6000, 400),
        "preferences": BuiltinSet(_preferences, 2000, 200),
        "math": BuiltinSet(_math, 4000, 400),
        "safety": BuiltinSet(_safety, 800, 200),
        "instructions": BuiltinSet(_instructions, 4000, 200),
    }
)
"""documents: plain text. chat: conversations. preferences, safety: two answers. math: questions with a number as the
answer. instructions: questions and how to answer, which a program can verify."""
