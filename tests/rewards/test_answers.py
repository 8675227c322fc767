"""Hand-made responses in LaTeX, Markdown and prose get the verdict that a reader gives them (`answers.txt`)."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from burnish.grading.call import call
from burnish.rewards.match import matches
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView

TABLE = Path(__file__).parent / "answers.txt"


def _entries() -> list[tuple[str, str, str, bool]]:
    """(Reward or ``match:rule``, reference, response, whether it is right)."""
    entries: list[tuple[str, str, str, bool]] = []
    rewards, reference = "", ""
    for written in TABLE.read_text(encoding="utf-8").splitlines():
        line = written.replace("⏎", "\n")
        if line.startswith("== "):
            rewards, _, reference = line.removeprefix("== ").partition(" | ")
        elif line[:2] in ("+ ", "- "):
            entries += [(reward, reference, line[2:], line[0] == "+") for reward in rewards.split()]
    return entries


ENTRIES = _entries()
GROUPS = {
    f"{reward} {reference}": list(rows)
    for (reward, reference), rows in groupby(sorted(ENTRIES), key=lambda entry: entry[:2])
}


def verdict(reward: str, reference: str, response: str) -> bool:
    if reward.startswith("match:"):
        rule = reward.removeprefix("match:")
        return matches(response, reference, rule)  # type: ignore[arg-type]
    [record] = read_rewards(reward)
    [outcome] = call(record, [ResponseView("What is it?", response, reference)])
    assert isinstance(outcome, float), outcome
    return outcome == 1


def test_there_are_hundreds_of_responses() -> None:
    assert len({(reference, response) for _, reference, response, _ in ENTRIES}) >= 600


@pytest.mark.parametrize("group", GROUPS)
def test_verdicts_are_those_of_a_reader(group: str) -> None:
    wrong = [
        ("paid" if not right else "not paid", response)
        for reward, reference, response, right in GROUPS[group]
        if verdict(reward, reference, response) != right
    ]
    assert not wrong
