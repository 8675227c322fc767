"""Built-in data sets by name; their rows are generated on demand.

`burnish.data` reads them as ``builtin:chat`` or ``builtin:chat/test``. The same name gives the same rows, bit for bit,
on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

from burnish.builtin.code import answers, code_tests, codings
from burnish.builtin.documents import documents
from burnish.builtin.draw import Draw
from burnish.builtin.instructed import instructed
from burnish.builtin.programs import ENTRY_POINT
from burnish.builtin.questions import Split, preferences, problems, questions
from burnish.builtin.reasoning import reasoning, solutions
from burnish.builtin.safety import requests
from burnish.builtin.shapes import Asked, Scene, shown
from burnish.builtin.topics import COAT, DOOR
from burnish.builtin.world import World, draw_world

SetRow = dict[str, object]
"""A row as `json` writes it."""
SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True, slots=True)
class BuiltinSet:
    """Built-in data set: generator of its rows, and their default number in each split."""

    rows: Callable[[World, Split, int], Iterator[SetRow]]
    """World, split and seed -> endless rows."""
    train: int
    test: int


class Row(TypedDict):
    """Row of the question/answer format."""

    question: str
    answer: str


def builtin_rows(name: str, split: Split = "train", *, count: int | None = None, seed: int = 0) -> list[SetRow]:
    """Rows of a data set. Example: ``builtin_rows("math", "test", count=2)[0]["answer"]``.

    Args:
        name: one of `SETS`.
        split: train or test; no question is in both.
        count: number of rows; None: as many as ``builtin:NAME`` has. Fewer rows are the first of more. The rows of a
            test split are distinct, and at most 1000.
        seed: of the draws; the world itself is always that of the built-in model.
    """
    chosen = SETS[name]
    number = (chosen.train if split == "train" else chosen.test) if count is None else count
    rows = chosen.rows(draw_world(0), split, seed)
    if split == "train":
        return list(islice(rows, number))
    assert number <= 1000, "a test split has at most 1000 rows, since the world is small"
    return list(islice(_distinct(rows), number))


def generate(seed: int, count: int) -> list[Row]:
    """Questions about colors in the question/answer format, which an untrained model learns fastest.

    The same seed always gives the same rows, and fewer rows are the first of more; there is no test split.
    """
    draw = Draw(f"colours {seed}")
    facts = [fact for fact in draw_world(0).facts if fact.topic in (DOOR, COAT)]
    chosen = [draw.choice(facts) for _ in range(count)]
    return [{"question": fact.questions[0], "answer": fact.answer} for fact in chosen]


def write_rows(path: Path, rows: list[Row] | list[SetRow]) -> None:
    """Writes rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _distinct(rows: Iterator[SetRow]) -> Iterator[SetRow]:
    seen: set[str] = set()
    for row in rows:
        key = json.dumps(row.get("prompt") or row.get("question") or row.get("messages") or row["text"])
        if key not in seen:
            seen.add(key)
            yield row


def _documents(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    return ({"text": text} for text in documents(world, split, seed))


def _chat(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for item in questions(world, split, seed):
        yield {"messages": [*_user(item.question), *_assistant(item.answer)], "kind": item.kind}


def _preferences(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for item in preferences(world, split, seed):
        yield {
            "prompt": _user(item.question),
            "chosen": _assistant(item.chosen),
            "rejected": _assistant(item.rejected),
        }


def _safety(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for item in requests(split, seed):
        yield {
            "prompt": _user(item.question),
            "chosen": _assistant(item.chosen),
            "rejected": _assistant(item.rejected),
            "tags": [item.tag],
        }


def _math(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    return ({"question": item.question, "answer": item.answer} for item in problems(world, split, seed))


def _instructions(world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for item in instructed(world, split, seed):
        yield {
            "prompt": _user(item.question),
            "reference": item.reference,
            "instruction_id_list": [item.kind],
            "kwargs": [dict(item.arguments)],
        }


def _reasoning(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    return ({"messages": [*_user(item.question), *_assistant(item.solution.text)]} for item in reasoning(split, seed))


def _reasoning_math(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    rows = reasoning("rl" if split == "train" else "test", seed, "reasoning-math")
    return ({"question": item.question, "answer": item.answer} for item in rows)


def _steps(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for item in solutions("rl" if split == "train" else "test", seed):
        solution = item.solution
        yield {
            "prompt": _user(item.question),
            "completions": list(solution.steps),
            "labels": list(solution.labels),
        }


def _code(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for coding in codings("code", ("train", "rl") if split == "train" else ("test",), seed):
        yield {
            "question": coding.question,
            "solution": coding.task.solution,
            "entry_point": ENTRY_POINT,
            "tests": [
                {"call": ENTRY_POINT, "args": [argument], "expected": expected}
                for argument, expected in code_tests(coding.task)
            ],
        }


def _code_chat(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    pairs = answers(("train",), seed) if split == "train" else answers(("test",), seed, buggy=0)
    return ({"messages": [*_user(question), *_assistant(answer)]} for question, answer in pairs)


def _shapes(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for scene, asked in shown("shapes", split, seed):
        yield {"messages": [*_user_with_picture(scene, asked), *_assistant(asked.sentence)], "kind": asked.kind}


def _shapes_preferences(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for scene, asked in shown("shapes-preferences", split, seed):
        yield {
            "prompt": _user_with_picture(scene, asked),
            "chosen": _assistant(asked.answer),
            "rejected": _assistant(asked.sentence),
        }


def _shapes_counting(_world: World, split: Split, seed: int) -> Iterator[SetRow]:
    for scene, asked in shown("shapes-counting", split, seed, ("count",)):
        yield {"prompt": _user_with_picture(scene, asked), "answer": asked.answer}


def _user_with_picture(scene: Scene, asked: Asked) -> list[SetRow]:
    parts = [{"type": "image", "image": scene.url()}, {"type": "text", "text": asked.question}]
    return [{"role": "user", "content": parts}]


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


SETS: Mapping[str, BuiltinSet] = MappingProxyType(
    {
        "documents": BuiltinSet(_documents, 20_000, 400),
        "chat": BuiltinSet(_chat, 6000, 400),
        "preferences": BuiltinSet(_preferences, 2000, 200),
        "math": BuiltinSet(_math, 4000, 400),
        "safety": BuiltinSet(_safety, 800, 200),
        "instructions": BuiltinSet(_instructions, 4000, 200),
        "reasoning": BuiltinSet(_reasoning, 6000, 400),
        "reasoning-math": BuiltinSet(_reasoning_math, 4000, 400),
        "steps": BuiltinSet(_steps, 6000, 400),
        "code": BuiltinSet(_code, 3000, 300),
        "code-chat": BuiltinSet(_code_chat, 6000, 300),
        "shapes": BuiltinSet(_shapes, 4000, 300),
        "shapes-preferences": BuiltinSet(_shapes_preferences, 2000, 200),
        "shapes-counting": BuiltinSet(_shapes_counting, 2000, 200),
    }
)
"""documents: plain text. chat: conversations. preferences, safety: two answers. math: questions with a number as the
answer. instructions: questions with a verifiable instruction. reasoning: conversations with a thought in steps.
reasoning-math: longer sums with a number as the answer. steps: solutions of such sums with a label for each step.
code: programming tasks with tests. code-chat: conversations with a program, which may have bugs. shapes: conversations
about a picture. shapes-preferences: a short answer and a sentence. shapes-counting: pictures with a number of shapes as
the answer."""
