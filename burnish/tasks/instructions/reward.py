"""Instructions whose following can be verified by a program: the 25 kinds of IFEval (arXiv 2311.07911).

A row names its instructions in two columns, as the published data does::

    {"prompt": "Say hello without commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from burnish.tasks.instructions.check import COPIES, follows
from burnish.tasks.instructions.shape import says
from burnish.tasks.instructions.whole import detector
from burnish.tasks.normalize import visible, without_prompt, without_thoughts, without_whole
from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward
from burnish.tasks.verdict import UnusableRow


class InstructionsReward(Reward):
    """Whether the response follows the row's instructions: 1 if all are followed, or the share that is.

    The prompt names keywords and phrases, so copies of all of it are taken off first, and a response that says nothing
    but lines and sentences of the prompt follows none; but for the kinds that ask for a copy.
    """

    name: Literal["instructions"] = "instructions"
    score_by: Literal["all", "share"] = "all"
    """all: 1 only if every instruction is followed. share: the share of them."""

    def prepare(self) -> None:
        """Imports langdetect."""
        detector()

    def score(self, answer: ResponseView) -> float:
        text = visible(without_thoughts(answer.text)).strip()
        own = without_whole(text, visible(answer.asked)).strip()
        own = own if says(without_prompt(own, visible(answer.asked))) else ""
        done = [follows(text if kind in COPIES else own, kind, arguments) for kind, arguments in instructions(answer)]
        return float(all(done)) if self.score_by == "all" else sum(done) / len(done)


def instructions(answer: ResponseView) -> list[tuple[str, Mapping[str, object]]]:
    """(Kind, arguments) of each instruction of the row.

    Raises:
        UnusableRow: the row has none, or not as many arguments as kinds.
    """
    kinds = _list(answer, "instruction_id_list")
    arguments = _list(answer, "kwargs") if answer.extra.get("kwargs") is not None else [{} for _ in kinds]
    if not kinds or len(arguments) != len(kinds):
        raise UnusableRow(f"the row has {len(kinds)} instructions and {len(arguments)} kwargs")
    return [(str(kind), _mapping(each)) for kind, each in zip(kinds, arguments, strict=True)]


def _list(answer: ResponseView, column: str) -> list[object]:
    given = answer.extra.get(column)
    if isinstance(given, list | tuple):
        return list(given)
    raise UnusableRow(f"column {column} is {given!r:.40}, and a list is needed")


def _mapping(given: object) -> Mapping[str, object]:
    """An object, or the JSON text of one."""
    if given is None:
        return {}
    try:
        read = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        read = given
    if isinstance(read, Mapping):
        return read
    raise UnusableRow(f"kwargs has {given!r:.40}, and objects are needed")
