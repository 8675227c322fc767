"""Messages between processes of the sandbox: frames of JSON, and plain values in them.

Nothing in a frame is executed. Values keep their exact type: numbers, text, bytes, lists, tuples, sets, dictionaries, a
few records of the standard library. Of a subclass of these, the plain value is sent, so what an overridden method says
has no effect. Anything else stays where it is, and a reference to it is sent.
"""

from __future__ import annotations

import datetime
import json
import socket
import struct
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

_LENGTH = struct.Struct("!I")
_SMALL = 1 << 53
_DEPTH = 200

ToReference = Callable[[object], Any]
"""Reference to an object that is not plain; raises TypeError where there are none."""
FromReference = Callable[[Any], object]


class ClosedError(Exception):
    """The other end is closed, or sent something that is no frame."""


class TooLargeError(Exception):
    """A frame that is larger than its limit."""


def send(channel: socket.socket, message: object, limit: int | None = None) -> None:
    """Sends a frame.

    Raises:
        TooLargeError: it has more bytes than `limit`; nothing is sent.
        ClosedError: nobody reads it.
    """
    data = json.dumps(message).encode()
    if limit is not None and len(data) > limit:
        raise TooLargeError
    try:
        channel.sendall(_LENGTH.pack(len(data)) + data)
    except OSError as error:
        raise ClosedError from error


def receive(channel: socket.socket, limit: int | None = None, due: float | None = None) -> Any:
    """Receives a frame.

    Args:
        channel: from another process.
        limit: bytes of the frame; None: any number.
        due: time, by time.monotonic(), at which all of it must have come; None: any time.

    Raises:
        TooLargeError: it has more bytes than `limit`.
        ClosedError: there is none.
    """
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size, due))
    if limit is not None and length > limit:
        raise TooLargeError
    try:
        return json.loads(_exactly(channel, length, due))
    except (ValueError, RecursionError) as error:
        raise ClosedError from error


def _exactly(channel: socket.socket, count: int, due: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        try:
            if due is not None:
                channel.settimeout(max(1e-3, due - time.monotonic()))
            part = channel.recv(min(count - len(parts), 1 << 16))
        except OSError as error:
            raise ClosedError from error
        if not part:
            raise ClosedError
        parts += part
    return bytes(parts)


def encode(value: object, to_reference: ToReference, depth: int = 0) -> Any:
    """A value as JSON takes it: scalars as they are, anything else as a list with a tag."""
    if depth > _DEPTH:
        raise TypeError("a value is nested too deeply")
    if value is None or isinstance(value, _SCALARS):
        return _scalar(value)
    for tag, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return [tag, *(encode(item, to_reference, depth + 1) for item in kind.__iter__(value))]
    if isinstance(value, dict):
        pairs = [[encode(part, to_reference, depth + 1) for part in pair] for pair in dict.items(value)]
        tag = next((tag for tag, kind in _MAPPINGS.items() if type(value) is kind), "dict")
        return [tag, *pairs]
    for tag, (kind, plain, _) in _RECORDS.items():
        if type(value) is kind:
            return [tag, *plain(value)]
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return ["type", value.__name__]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return ["array" if type(value).__name__ == "ndarray" else "scalar", encode(value.tolist(), to_reference)]
    return ["object", to_reference(value)]


def _scalar(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -_SMALL < number < _SMALL else ["int", hex(number)]
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, complex):
        plain = complex.__complex__(value)
        return ["complex", plain.real, plain.imag]
    kind = bytearray if isinstance(value, bytearray) else bytes
    return [kind.__name__, kind.hex(value)]


def decode(message: Any, from_reference: FromReference) -> Any:
    """The value that `encode` wrote.

    Raises:
        ValueError: it is no such value.
    """
    if message is None or isinstance(message, bool | int | float | str):
        return message
    if not isinstance(message, list) or not message or not isinstance(message[0], str):
        raise ValueError("no value")
    tag, *parts = message
    try:
        if tag in _ATOMS:
            return _ATOMS[tag](*parts)
        if tag in _SEQUENCES:
            return _SEQUENCES[tag](decode(part, from_reference) for part in parts)
        if tag in ("dict", *_MAPPINGS):
            pairs = [(decode(key, from_reference), decode(item, from_reference)) for key, item in parts]
            plain = dict(pairs)
            return defaultdict(None, plain) if tag == "defaultdict" else _MAPPINGS.get(tag, dict)(plain)
        if tag in _RECORDS:
            return _RECORDS[tag][2](*parts)
        if tag in ("array", "scalar"):
            value = decode(parts[0], from_reference)
            return _array(value) if tag == "array" else value
        if tag == "object":
            return from_reference(parts[0])
    except (TypeError, IndexError, KeyError, ArithmeticError, RecursionError) as error:
        raise ValueError("no value") from error
    raise ValueError("no value")


def _array(value: object) -> object:
    """An array where the process of the tests has loaded numpy, else the list."""
    numpy = sys.modules.get("numpy")
    return value if numpy is None else numpy.array(value)


_SCALARS = (str, int, float, complex, bytes, bytearray)
_SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, slice)
}
_ATOMS: dict[str, Callable[..., object]] = {
    "int": lambda digits: int(digits, 16),
    "complex": complex,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "type": lambda name: _TYPES[name],
}
_MAPPINGS: dict[str, Any] = {"Counter": Counter, "OrderedDict": OrderedDict, "defaultdict": defaultdict, "dict": dict}
_RECORDS: dict[str, tuple[type, Callable[[Any], list[Any]], Callable[..., object]]] = {
    "Decimal": (Decimal, lambda value: [str(value)], Decimal),
    "Fraction": (
        Fraction,
        lambda value: [hex(value.numerator), hex(value.denominator)],
        lambda top, bottom: Fraction(int(top, 16), int(bottom, 16)),
    ),
    "range": (range, lambda value: [value.start, value.stop, value.step], range),
    "slice": (slice, lambda value: [value.start, value.stop, value.step], slice),
    "date": (datetime.date, lambda value: [value.isoformat()], datetime.date.fromisoformat),
    "time": (datetime.time, lambda value: [value.isoformat()], datetime.time.fromisoformat),
    "datetime": (datetime.datetime, lambda value: [value.isoformat()], datetime.datetime.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda value: [value.days, value.seconds, value.microseconds],
        datetime.timedelta,
    ),
}
