"""Results of rewards become numbers or typed failures, never a silent 0; wrong counts are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import RecipeError
from burnish.grading.call import call
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward, combine
from burnish.rewards.verdict import Failure, FailureKind, Outcome, Verdict, count_failures, outcome

NURSERY = Path(__file__).parents[1] / "nursery.py"


def own(name: str, **options: object) -> Reward:
    [reward] = read_rewards({"name": f"{NURSERY}:{name}", **options})
    reward.prepare()
    return reward


def outcomes(reward: Reward, *texts: str) -> list[Outcome]:
    return call(reward, [ResponseView("Say it.", text, reference="yes", extra={"level": 2}) for text in texts])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("true", 1.0),
        ("false", 0.0),
        ("integer", 3.0),
        ("decimal", 0.5),
        ("numpy", 0.5),
        ("numpy bool", 1.0),
        ("array of one", 0.5),
        ("fraction", 0.5),
        ("nothing", None),
        ("anything", 0.25),
    ],
)
def test_numbers(text: str, number: float | None) -> None:
    [given] = outcomes(own("mischief"), text)
    assert given == number
    assert given is None or type(given) is float


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NaN", FailureKind.NOT_FINITE),
        ("infinity", FailureKind.NOT_FINITE),
        ("text", FailureKind.WRONG_TYPE),
        ("list", FailureKind.WRONG_TYPE),
        ("complex", FailureKind.WRONG_TYPE),
        ("array of two", FailureKind.WRONG_TYPE),
        ("huge", FailureKind.WRONG_TYPE),
        ("raise", FailureKind.CRASH),
        ("much memory", FailureKind.CRASH),
        ("unreachable", FailureKind.UNREACHABLE),
    ],
)
def test_failures(text: str, kind: FailureKind) -> None:
    [given] = outcomes(own("mischief"), text)
    assert isinstance(given, Failure)
    assert given.kind == kind
    assert "\n" not in given.detail


@given(st.floats() | st.integers() | st.booleans() | st.text() | st.none() | st.lists(st.floats()))
def test_an_outcome_is_finite_or_no_number(value: object) -> None:
    given = outcome(value)
    assert given is None or isinstance(given, Failure) or (type(given) is float and math.isfinite(given))
    assert (given is None) == (value is None)


def test_trl_functions() -> None:
    assert outcomes(own("lengths"), "one", "three") == [3.0, 5.0]
    assert outcomes(own("right"), "yes", "no") == [2.0, 0.0]
    assert outcomes(own("later"), "a", "b") == [1.0, 1.0]
    assert outcomes(own("some"), "a", "1") == [1.0, None]


def test_trl_functions_of_conversations_and_tokens() -> None:
    messages = ({"role": "user", "content": "Say it."},)
    answers = [ResponseView(messages, "ab", token_ids=(1, 2, 3))]
    assert call(own("conversational"), answers) == [3.0]
    assert call(own("tokens"), answers) == [3.0]


def test_a_class_gets_its_options() -> None:
    assert outcomes(own("Target", options={"length": 2}), "ab", "abc") == [1.0, 0.0]


@pytest.mark.parametrize("name", ["short_list", "no_list", "needs_more"])
def test_a_broken_contract_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=name):
        outcomes(own(name), "a", "b")


@pytest.mark.parametrize(
    ("name", "options"),
    [("strange", {}), ("Silent", {}), ("Target", {}), ("lengths", {"options": {"a": 1}}), ("absent", {})],
)
def test_invalid_rewards_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        own(name, **options)


def test_only_rows_that_where_selects_are_graded() -> None:
    reward = own("lengths", where={"level": 2})
    answers = [
        ResponseView("p", "one", extra={"level": 2}),
        ResponseView("p", "two", extra={"level": 3}),
        ResponseView("p", "three"),
    ]
    assert call(reward, answers) == [3.0, None, None]


def _parts(**parts: Outcome) -> Verdict:
    settings = [{"name": f"{NURSERY}:lengths", "metric": name} for name in parts]
    weights = {"a": 1.0, "b": 0.2, "watched": 0.0}
    return combine(read_rewards([{**entry, "weight": weights[entry["metric"]]} for entry in settings]), parts)


def test_a_reward_is_the_weighted_sum() -> None:
    assert _parts(a=1.0, b=0.5).reward == 1.1
    assert _parts(a=1.0, b=None).reward == 1.0
    assert _parts(a=None, b=None).reward is None
    assert _parts(a=1.0, watched=5.0).reward == 1.0


def test_a_failure_is_the_whole_verdict_unless_only_watched() -> None:
    failure = Failure(FailureKind.TIMEOUT, "no verdict within 5 s")
    failed = _parts(a=1.0, b=failure)
    assert isinstance(failed.reward, Failure)
    assert failed.reward.detail == "b: no verdict within 5 s"
    watched = _parts(a=1.0, watched=failure)
    assert watched.reward == 1.0
    assert count_failures([failed, failed, watched]) == {("b", "timeout"): 2, ("watched", "timeout"): 1}
