"""Values between the processes of the sandbox: what arrives is what was sent, and nothing else can be sent."""

from __future__ import annotations

import contextlib
import datetime
import socket
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.sandbox.server.compare import matches
from burnish.sandbox.server.exchange import ClosedError, TooLargeError, decode, encode, receive, send

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
)
_HASHABLE = st.recursive(
    _SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=8
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.sets(_HASHABLE, max_size=3)
        | st.dictionaries(_HASHABLE, inner, max_size=3)
        | st.dictionaries(_HASHABLE, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=16,
)


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not plain")


def _types(value: object) -> object:
    if isinstance(value, dict):
        return type(value), [(_types(key), _types(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return type(value), [_types(item) for item in value]
    return type(value)


@given(_VALUES)
def test_what_arrives_is_what_was_sent(value: object) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        send(one, encode(value, _refuse))
        back = decode(receive(other), _refuse)
    assert back == value
    assert _types(back) == _types(value)


@pytest.mark.parametrize(
    "value",
    [Counter("abca"), defaultdict(int, {1: 2}), range(1, 9, 2), slice(1, None), bytearray(b"x"), int, {1: {2: {3}}}],
)
def test_records_of_the_standard_library(value: object) -> None:
    back = decode(encode(value, _refuse), _refuse)
    assert (back, type(back)) == (value, type(value))


class _Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __int__(self) -> int:
        return 42

    def __str__(self) -> str:
        return "42"


class _Pretends:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return list


def test_overridden_methods_say_nothing() -> None:
    assert decode(encode(_Liar(7), _refuse), _refuse) == 7
    assert type(decode(encode([_Liar(7)], _refuse), _refuse)[0]) is int
    with pytest.raises(TypeError):
        encode(_Pretends(), _refuse)


def test_objects_go_as_references() -> None:
    seen: list[object] = []
    thing = object()

    def reference(value: object) -> int:
        seen.append(value)
        return 5

    message = encode([1, thing], reference)
    assert seen == [thing]
    assert decode(message, lambda number: f"object {number}") == [1, "object 5"]


def test_nesting_has_a_limit() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested"):
        encode(endless, _refuse)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=10,
    )
)
def test_any_message_is_a_value_or_an_error(message: object) -> None:
    with contextlib.suppress(ValueError, TypeError):
        decode(message, _refuse)


@pytest.mark.parametrize("tag", ["int", "complex", "bytes", "dict", "Decimal", "Fraction", "date", "slice", "type"])
@pytest.mark.parametrize("parts", [[], [None], ["x"], [[]], ["1", "0", 3]])
def test_broken_values_are_errors(tag: str, parts: list[object]) -> None:
    try:
        value = decode([tag, *parts], _refuse)
    except ValueError:
        return
    assert isinstance(value, int | dict | slice | complex | Decimal | Fraction | datetime.date)


def test_frames_have_a_limit() -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(TooLargeError):
            send(one, "x" * 100, limit=50)
        send(one, "x" * 100)
        with pytest.raises(TooLargeError):
            receive(other, limit=50)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\4{", b"\0\0\0\1{", b"\0\0\0\2\xff\xff", b"\0\0\0\5[1,2"])
def test_what_is_no_frame(data: bytes) -> None:
    one, other = socket.socketpair()
    with other:
        with one:
            one.sendall(data)
        with pytest.raises(ClosedError):
            receive(other)


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        (3, 3, True),
        (3, 4, False),
        (3, 3.0, True),
        (3.0, 3, True),
        (0.1 + 0.2, 0.3, True),
        (0.3001, 0.3, False),
        (True, 1, False),
        (1, True, False),
        (True, True, True),
        ((1, 2), [1, 2], True),
        ([1, [2.0, "a"]], (1, (2, "a")), True),
        ([1], [1, 2], False),
        ({1: 2.0}, {1: 2}, True),
        ({1: 2}, {1: 2, 3: 4}, False),
        ({1, 2}, {2, 1}, True),
        ({1, 2}, [1, 2], False),
        ("3", 3, False),
        (None, 0, False),
        (float("nan"), float("nan"), True),
        (float("nan"), 1.0, False),
        (float("inf"), float("inf"), True),
        (10**400, 1.0, False),
    ],
)
def test_results_that_are_the_expected_ones(got: object, expected: object, same: bool) -> None:
    assert matches(got, expected) is same
