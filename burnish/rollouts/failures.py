"""Rewards that fail on every response: errors that end a run, since nothing can be learned from it."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.errors import RunError
from burnish.rewards.verdict import Failure, FailureKind, failure_lines
from burnish.rollouts.worker import GradedGroup

_BROKEN = (FailureKind.CRASH, FailureKind.WRONG_TYPE, FailureKind.NOT_FINITE)
"""Kinds of failures of the code of a reward, not of a row, a server or a moment."""


def nothing_graded(graded: Sequence[GradedGroup]) -> RunError:
    """Error for groups none of whose responses have a reward, with the first failure of each reward."""
    lines = list(failure_lines([verdict for group in graded for verdict in group.verdicts]).values())
    return RunError(
        given=f"none of the responses to {len(graded)} prompts could be graded: "
        + ("; ".join(lines[:3]) or "no reward applies to these rows (where: …)"),
        rule="a failure is not a reward of 0: ungraded responses are left out, and here nothing remains",
        remedy="correct the reward; burnish check tests it on known answers before a run",
    )


def require_working_rewards(graded: Sequence[GradedGroup]) -> None:
    """Refuses a reward whose code fails on every response, before more are sampled.

    Raises:
        RunError: the reward of every response is a failure of the code.
    """
    rewards = [verdict.reward for group in graded for verdict in group.verdicts]
    if rewards and all(isinstance(reward, Failure) and reward.kind in _BROKEN for reward in rewards):
        raise nothing_graded(graded)
