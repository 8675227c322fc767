"""Share of responses that repeat another one to the same prompt."""

from __future__ import annotations

import pytest

from burnish.rollouts.metrics import _duplicates


@pytest.mark.parametrize(
    ("texts", "share"), [(["a"], 0.0), (["a", "b"], 0.0), (["a", "a"], 1.0), (["a", "a", "b"], 0.5)]
)
def test_a_single_response_repeats_none(texts: list[str], share: float) -> None:
    assert _duplicates(texts) == share
