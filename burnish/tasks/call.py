"""Calling a reward, whatever it does: exceptions become failures, numbers are looked at, wrong counts are refused.

Runs in the worker processes (and in this one, for those who want no processes); the one place where a broad ``except``
is meant, because a reward may raise anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from burnish.errors import RecipeError, UserError
from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward
from burnish.tasks.verdict import Failure, FailureKind, Outcome, UnusableRow, one_line, outcome

_UNREACHABLE = frozenset(
    {"APIConnectionError", "ConnectionError", "Timeout", "TimeoutError", "TransportError", "URLError", "gaierror"}
)
"""Names of classes: Python's own, and those of requests, urllib, httpx and openai, which are not imported for this."""


def call(reward: Reward, answers: Sequence[ResponseView]) -> list[Outcome]:
    """What the reward says of these answers: one, or all of a group.

    Raises:
        UserError: the reward breaks its contract in a way that is no single answer's: it gives more or fewer numbers
            than answers, or asks for columns that the rows lack.
    """
    asked = [answer for answer in answers if reward.applies(answer)]
    if not asked:
        return [None] * len(answers)
    said = iter(_said(reward, asked))
    return [next(said) if reward.applies(answer) else None for answer in answers]


def _said(reward: Reward, answers: Sequence[ResponseView]) -> list[Outcome]:
    try:
        given = reward.judge(answers)
        numbers = _listed(reward, given)
    except UserError:
        raise
    except UnusableRow as error:
        return _all(answers, Failure(FailureKind.UNUSABLE_ROW, str(error)))
    except Exception as error:  # noqa: BLE001 (a reward is anybody's code)
        return _all(answers, Failure(_kind(error), one_line(error)))
    if len(numbers) != len(answers):
        raise RecipeError(
            given=f"reward {reward.name} gave {len(numbers)} verdicts for {len(answers)} answers",
            rule="a reward gives one verdict for each answer, in their order",
            remedy="let it return a list as long as the answers it gets; None for those that it does not judge",
        )
    return [outcome(number) for number in numbers]


def _listed(reward: Reward, given: object) -> list[object]:
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | Set):
        return list(given)
    raise RecipeError(
        given=f"reward {reward.name} gave a {type(given).__name__}",
        rule="a reward gives a list of verdicts, one for each answer",
        remedy="let it return a list",
    )


def _kind(error: Exception) -> FailureKind:
    names = {base.__name__ for base in type(error).__mro__}
    return FailureKind.UNREACHABLE if names & _UNREACHABLE else FailureKind.CRASH


def _all(answers: Sequence[ResponseView], failure: Failure) -> list[Outcome]:
    return [failure] * len(answers)
