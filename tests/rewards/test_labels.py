"""Outcomes with a label: from a reward through worker processes, the cache and verdicts to shares."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.grading.protocol import outcomes_in, verdict_message
from burnish.rewards.code.reward import CodeReward
from burnish.rewards.reward import combine
from burnish.rewards.style import RepetitionReward
from burnish.rewards.verdict import (
    Failure,
    FailureKind,
    Label,
    LabelledOutcome,
    Outcome,
    Verdict,
    label_shares,
    outcome,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LABELLED = st.builds(LabelledOutcome, NUMBERS, st.text(max_size=8))


def label_of(given: Outcome) -> str | None:
    return given.label if isinstance(given, LabelledOutcome) else None


@given(LABELLED)
def test_it_is_a_number_with_a_label(labelled: LabelledOutcome) -> None:
    assert labelled == float(labelled)
    assert repr(float(labelled)) == repr(float(pickle.loads(pickle.dumps(labelled))))
    assert pickle.loads(pickle.dumps(labelled)).label == labelled.label
    assert label_of(outcome(labelled)) == labelled.label


def test_one_that_is_no_number_is_a_failure() -> None:
    assert isinstance(outcome(LabelledOutcome(float("nan"), "late")), Failure)


FAILURES = st.builds(Failure, st.sampled_from(FailureKind), st.text(max_size=8))


@given(st.lists(st.none() | NUMBERS | LABELLED | FAILURES, max_size=5))
def test_outcomes_come_back_from_a_worker(outcomes: list[Outcome]) -> None:
    back = outcomes_in(json.loads(verdict_message(0, outcomes)))
    assert back == outcomes
    assert list(map(label_of, back)) == list(map(label_of, outcomes))


REWARDS = (CodeReward(), RepetitionReward(weight=0.5))


@pytest.mark.parametrize("other", [-0.5, None, Failure(FailureKind.CRASH, "it crashed")])
def test_a_verdict_keeps_the_label_beside_the_number(other: Outcome) -> None:
    verdict = combine(REWARDS, {"code": LabelledOutcome(1.0, "passed"), "repetition": other})
    assert type(verdict.parts["code"]) is float
    assert verdict.labels == {"code": Label("passed", CodeReward().labels)}


def verdicts(labels: Sequence[str]) -> list[Verdict]:
    return [combine(REWARDS[:1], {"code": LabelledOutcome(0.0, label)}) for label in labels]


@given(st.lists(st.sampled_from(CodeReward().labels), min_size=1, max_size=8))
def test_shares_of_all_labels_add_up_to_one(labels: list[str]) -> None:
    shares = label_shares(verdicts(labels))
    assert set(shares) == {f"code/{label}" for label in CodeReward().labels}
    assert sum(shares.values()) == pytest.approx(1)
    for label in labels:
        assert shares[f"code/{label}"] == labels.count(label) / len(labels)


def test_outcomes_without_a_label_do_not_count() -> None:
    failed = combine(REWARDS[:1], {"code": Failure(FailureKind.SANDBOX, "no process")})
    assert label_shares([*verdicts(["passed"]), failed, Verdict({"code": None}, None)])["code/passed"] == 1
    assert label_shares([failed]) == {}
