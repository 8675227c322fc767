"""The alert for a gap to the teacher that does not close."""

from __future__ import annotations

import pytest

from burnish.watch.teacher_alert import TeacherGap


def raised(values: list[float]) -> list[int]:
    """Indices of the evaluations that raise the alert; lines of other steps lie between."""
    rule, found = TeacherGap(), []
    for index, value in enumerate(values):
        assert rule.observe(10 * index + 1, {"train/loss": 1.0}) is None
        if rule.observe(10 * index, {"eval/teacher_kl": value}) is not None:
            found.append(index)
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 0.5, 0.4, 0.3, 0.3], []),
        ([1.0, 1.0, 0.95, 0.91], [3]),
        ([1.0, 1.2, 1.3, 1.4, 1.5], [3]),  # once per episode
        ([1.0, 0.95, 0.95, 0.8, 0.95, 0.95, 0.95], [6]),
        ([1.0, 0.95, 0.95], []),
        ([0.005, 0.006, 0.006, 0.006], []),  # equal to begin with
        ([1.0], []),
        ([], []),
    ],
)
def test_it_is_raised_where_the_gap_stays(values, expected):
    assert raised(values) == expected


def test_it_says_by_how_much():
    rule = TeacherGap()
    messages = [rule.observe(step, {"eval/teacher_kl": value}) for step, value in enumerate([2.0, 1.9, 1.9, 1.875])]
    assert messages[:3] == [None] * 3
    assert "1.88 nats per token" in messages[3]
    assert "2 at first" in messages[3]
