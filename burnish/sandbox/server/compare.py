"""Comparison of the result of a call with the expected value. Pure; used by `tester` and by engines on servers."""

from __future__ import annotations

import math

RELATIVE = 1e-6
"""Relative tolerance of floats in call tests."""


def matches(got: object, expected: object) -> bool:
    """Whether a value is the expected one: numbers by value, floats to a relative 1e-6, list and tuple alike."""
    if isinstance(expected, bool) or isinstance(got, bool):
        return isinstance(got, bool) and isinstance(expected, bool) and got == expected
    if isinstance(expected, float) or (isinstance(got, float) and isinstance(expected, int)):
        return isinstance(got, int | float) and _close(got, expected)
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(expected):
            return False
        return all(map(matches, got, expected))
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return False
        return all(matches(got[key], expected[key]) for key in expected)
    return type(got) is type(expected) and got == expected


def _close(got: float, expected: float) -> bool:
    try:
        one, other = float(got), float(expected)
    except OverflowError:
        return got == expected
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=1e-9)
