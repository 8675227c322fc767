"""Reward for following verifiable instructions: the 25 kinds of IFEval (arXiv 2311.07911).

A row has its instructions in two columns, as in the published data::

    {"prompt": "Say hello without commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from burnish.rewards.instructions.check import COPIES, follows
from burnish.rewards.instructions.shape import has_content
from burnish.rewards.instructions.whole import detector
from burnish.rewards.normalize import visible, without_prompt, without_thoughts, without_whole
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import UnusableRow


class InstructionsReward(Reward):
    """Grades whether the response follows the row's instructions: 1 if all are followed, or their share.

    The prompt names keywords and phrases, so copies of the whole prompt are removed first, and a response that consists
    only of lines and sentences of the prompt follows no instruction, except for the kinds that ask for a copy.
    """

    name: Literal["instructions"] = "instructions"
    score_by: Literal["all", "share"] = "all"
    """all: 1 only if every instruction is followed. share: the share of followed instructions."""

    def prepare(self) -> None:
        """Imports langdetect."""
        detector()

    def score(self, answer: ResponseView) -> float:
        text = visible(without_thoughts(answer.text)).strip()
        own = without_whole(text, visible(answer.asked)).strip()
        own = own if has_content(without_prompt(own, visible(answer.asked))) else ""
        followed = [
            follows(text if kind in COPIES else own, kind, arguments) for kind, arguments in instructions(answer)
        ]
        return float(all(followed)) if self.score_by == "all" else sum(followed) / len(followed)


def instructions(answer: ResponseView) -> list[tuple[str, Mapping[str, object]]]:
    """(Kind, arguments) of each instruction of a row.

    Raises:
        UnusableRow: the row has none, or different numbers of kinds and arguments.
    """
    kinds = _list(answer, "instruction_id_list")
    arguments = _list(answer, "kwargs") if answer.extra.get("kwargs") is not None else [{} for _ in kinds]
    if not kinds or len(arguments) != len(kinds):
        raise UnusableRow(f"the row has {len(kinds)} instructions and {len(arguments)} kwargs")
    return [(str(kind), _mapping(value)) for kind, value in zip(kinds, arguments, strict=True)]


def _list(answer: ResponseView, column: str) -> list[object]:
    given = answer.extra.get(column)
    if isinstance(given, list | tuple):
        return list(given)
    raise UnusableRow(f"column {column} is {given!r:.40}, not a list")


def _mapping(given: object) -> Mapping[str, object]:
    """Mapping of an object or of its JSON text."""
    if given is None:
        return {}
    try:
        value = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        value = given
    if isinstance(value, Mapping):
        return value
    raise UnusableRow(f"kwargs has {given!r:.40}, not an object")
