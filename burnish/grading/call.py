"""Calls a reward: exceptions become failures, results are validated, wrong counts are refused.

Runs in the worker processes. The one place with a broad ``except``, because a reward may raise anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from burnish.errors import RecipeError, UserError
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import Failure, FailureKind, Outcome, UnusableRow, one_line, outcome
from burnish.sandbox.base import SandboxError

_UNREACHABLE = frozenset(
    {"APIConnectionError", "ConnectionError", "Timeout", "TimeoutError", "TransportError", "URLError", "gaierror"}
)
"""Names of exception classes that mean an unreachable server: Python's own, and those of requests, urllib, httpx and
openai, which are not imported for this."""


def call(reward: Reward, answers: Sequence[ResponseView]) -> list[Outcome]:
    """Outcomes of a reward for answers that are graded together: one, or all of a group.

    Raises:
        UserError: the reward breaks its contract in a way that concerns no single answer: it gives more or fewer
            numbers than answers, or needs columns that the rows lack.
    """
    applicable = [answer for answer in answers if reward.applies(answer)]
    if not applicable:
        return [None] * len(answers)
    outcomes = iter(_outcomes(reward, applicable))
    return [next(outcomes) if reward.applies(answer) else None for answer in answers]


def _outcomes(reward: Reward, answers: Sequence[ResponseView]) -> list[Outcome]:
    try:
        numbers = _as_list(reward, reward.grade(answers))
    except UserError:
        raise
    except UnusableRow as error:
        return [Failure(FailureKind.UNUSABLE_ROW, str(error))] * len(answers)
    except Exception as error:  # noqa: BLE001 (a reward is anybody's code)
        return [Failure(_kind(error), one_line(error) + reward.raised_at(error))] * len(answers)
    if len(numbers) != len(answers):
        raise RecipeError(
            given=f"reward {reward.name} returned {len(numbers)} numbers for {len(answers)} responses",
            rule="a reward returns one number for each response, in their order",
            remedy="return a list as long as the responses, with None for those that it does not grade",
        )
    return [outcome(number) for number in numbers]


def _as_list(reward: Reward, given: object) -> list[object]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | Set):
        return list(given)
    raise RecipeError(
        given=f"reward {reward.name} returned a {type(given).__name__}",
        rule="a reward returns a list of numbers, one for each response",
        remedy="return a list",
    )


def _kind(error: Exception) -> FailureKind:
    if isinstance(error, SandboxError):
        return FailureKind.SANDBOX
    names = {base.__name__ for base in type(error).__mro__}
    return FailureKind.UNREACHABLE if names & _UNREACHABLE else FailureKind.CRASH
