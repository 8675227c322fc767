"""Checks of a stage `rl`: usable prompts, and rewards that distinguish right and wrong answers.

They need the tokenizer but no weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.checks.subject import Subject
from burnish.checks.verdict import CheckResult, checked
from burnish.data.prompts import Prompts, TokenizedPrompt
from burnish.grading.self_test import self_test
from burnish.rewards.response_views import response_view
from burnish.stages.named_models import require_named_models
from burnish.stages.on_policy.data import OnPolicyData

MAX_DROPPED = 0.5
"""Largest share of prompts that may be left out since they are too long."""
TEST_ROWS = 60
"""Number of rows, drawn by the seed, for the self-test of the rewards."""


def prompts_are_usable(subject: Subject) -> CheckResult:
    """The rows of the recipe become prompts. An unusable row is a DataError that names it."""
    data = opened_prompts(subject)
    sets = [data.train, *([data.held_out] if data.held_out else [])]
    dropped = max(prompts.dropped / (prompts.dropped + len(prompts.tokenized)) for prompts in sets)
    tokenizer, limit = subject.context.reader.tokenizer, data.train.preparation.limit
    return checked(
        dropped <= MAX_DROPPED,
        "; ".join(line for prompts in sets for line in prompts.lines()),
        f"prompt and response fill at most {limit}: {limit.raised(then=', or ')}lower max_new_tokens",
        str(tokenizer.decode(data.train.tokenized[0].tokens.tolist())),
    )


def rewards_distinguish_answers(subject: Subject) -> CheckResult:
    """References are graded right; an empty answer, the prompt repeated and another row's reference wrong."""
    data = opened_prompts(subject)
    if not data.judge.rewards:
        return CheckResult(None, "the stage has no reward")
    rows = [response_view(prompt.task, "") for prompt in drawn_prompts(data.train, subject.recipe.seed, TEST_ROWS)]
    with data.judge as runner:
        result = self_test(runner, rows)
    if not result.trials:
        return CheckResult(None, f"no answer is known to be right or wrong for {', '.join(result.untried)}")
    return checked(
        result.passed,
        f"{len(result.trials) - len(result.failed)} of {len(result.trials)} known answers are graded correctly",
        "see the failures below: the reward accepts any answer, or cannot parse the references",
        "\n".join(result.lines()),
    )


def opened_prompts(subject: Subject) -> OnPolicyData[Any]:
    """The opened data of a stage whose rows are prompts."""
    require_named_models(subject.context)
    data: OnPolicyData[Any] = subject.kind.open(subject.context)
    return data


def drawn_prompts(prompts: Prompts, seed: int, count: int) -> list[TokenizedPrompt]:
    """At most ``count`` prompts, drawn by the seed, in the order of their rows."""
    order = np.random.default_rng([seed, 0xC4]).permutation(len(prompts.tokenized))
    return [prompts.tokenized[index] for index in sorted(order[:count].tolist())]
