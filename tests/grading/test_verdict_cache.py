"""The file of verdicts: exact, whole lines only, torn ends cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import RunError
from burnish.grading.verdict_cache import VerdictCache, content_key
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Failure, FailureKind


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, numbers: list[float | None]) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    with VerdictCache.open(path) as cache:
        cache.write("key", "part", numbers)
    with VerdictCache.open(path) as cache:
        assert repr(cache.read("key")) == repr(numbers)
        assert cache.read("other") is None


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with VerdictCache.open(path) as cache:
        cache.write("one", "part", [1.0])
        cache.write("two", "part", [2.0])
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, whole.index(b"\n") + 1, -7):
        path.write_bytes(whole[:cut])
        with VerdictCache.open(path) as cache:
            assert (cache.read("one"), cache.read("two")) == ([1.0], None)
            cache.write("two", "part", [2.0])
        assert path.read_bytes() == whole


def test_failures_are_not_written_and_the_first_verdict_stays(tmp_path: Path) -> None:
    with VerdictCache.open(tmp_path / "j") as cache:
        cache.write("key", "part", [1.0, Failure(FailureKind.TIMEOUT, "late")])
        assert cache.read("key") is None
        cache.write("key", "part", [1.0])
        cache.write("key", "part", [2.0])
        assert cache.read("key") == [1.0]
    assert (tmp_path / "j").read_text().count("\n") == 1


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"key": "a"}', '{"key": "a", "verdicts": ["1"]}', '{"verdicts": [1]}']
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "j").write_text(f'{{"key": "a", "metric": "p", "verdicts": [1.0]}}\n{line}\n')
    with pytest.raises(RunError, match="line 2"):
        VerdictCache.open(tmp_path / "j")


def test_a_key_has_everything_that_determines_an_outcome() -> None:
    answer = ResponseView("p", "t", reference="r", extra={"a": 1})
    others = [
        ResponseView("q", "t", reference="r", extra={"a": 1}),
        ResponseView("p", "u", reference="r", extra={"a": 1}),
        ResponseView("p", "t", reference="s", extra={"a": 1}),
        ResponseView("p", "t", reference="r", extra={"a": 2}),
        ResponseView("p", "t", reference="r", extra={"a": 1}, token_ids=(1,)),
    ]
    [math] = read_rewards("math")
    [strict] = read_rewards({"name": "math", "forms": ["boxed"]})
    [heavy] = read_rewards({"name": "math", "weight": 3, "metric": "other", "timeout": 1.0})
    keys = {content_key(math, [view]) for view in (answer, *others)} | {content_key(strict, [answer])}
    assert len(keys) == 7
    assert content_key(heavy, [answer]) == content_key(math, [answer])
    assert content_key(math, [answer, answer]) not in keys
