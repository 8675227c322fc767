"""Checks of a stage that learns by trying: usable prompts, and rewards that tell right from wrong.

They need the tokenizer and no weights.
"""

from __future__ import annotations

import numpy as np

from burnish.checks.subject import Subject
from burnish.checks.verdict import Verdict, judged
from burnish.data.prompts import Prompts, TokenizedPrompt
from burnish.stages.rl.data import RLData
from burnish.tasks.response_views import response_view
from burnish.tasks.self_test import self_test

MOST_DROPPED = 0.5
"""Share of the prompts that may be left out since they are too long."""
TRIED = 60
"""Rows on whose known answers rewards are tried, drawn by the seed."""


def prompts_are_usable(subject: Subject) -> Verdict:
    """The recipe is read, and its rows become prompts. What cannot be used is a DataError that says where."""
    practice = RLData.of(subject.opener)
    sets = [practice.train, *([practice.held_out] if practice.held_out else [])]
    most = max(each.dropped / (each.dropped + len(each.waiting)) for each in sets)
    tokenizer = subject.opener.reader.tokenizer
    return judged(
        most <= MOST_DROPPED,
        "; ".join(line for each in sets for line in each.lines()),
        "raise max_length, or lower max_new_tokens",
        str(tokenizer.decode(list(practice.train.waiting[0].tokens))),
    )


def rewards_tell_right_from_wrong(subject: Subject) -> Verdict:
    """References are judged right; an empty answer, the prompt repeated and another row's reference wrong."""
    practice = RLData.of(subject.opener)
    rows = [response_view(each.task, "") for each in _drawn(practice.train, subject.recipe.seed)]
    with practice.judge as judge:
        tried = self_test(judge, rows)
    if not tried.trials:
        return Verdict(None, f"no answer is known to be right or wrong for {', '.join(tried.untried)}")
    return judged(
        tried.passed,
        f"{len(tried.trials) - len(tried.failed)} of {len(tried.trials)} known answers are judged as they must be",
        "look at the failures below: the reward pays for anything, or cannot read the references",
        "\n".join(tried.lines()),
    )


def _drawn(prompts: Prompts, seed: int) -> list[TokenizedPrompt]:
    order = np.random.default_rng([seed, 0xC4]).permutation(len(prompts.waiting))
    return [prompts.waiting[place] for place in sorted(order[:TRIED].tolist())]
