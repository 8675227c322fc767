"""Process of a program that is tested: loads it, and answers requests of the process of its tests (`tester`).

All that leaves this process is values (`exchange`). What the program overrides or patches can only change the values
that it gives itself; the tests, what they expect, and their verdict are elsewhere.
"""

from __future__ import annotations

import builtins
import operator
import socket
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

from burnish.sandbox.server.exchange import ClosedError, TooLargeError, decode, encode, receive, send

MODULE = "candidate"


def serve(channel: socket.socket, limit: int) -> None:
    """Receives the program, loads it, and serves until the channel is closed.

    Args:
        channel: to the process of the tests.
        limit: bytes of one value.
    """
    objects = Objects()
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    program = receive(channel)["program"]

    def load() -> None:
        code = compile(program, f"<{MODULE}>", "exec", dont_inherit=True)
        objects.compiled = True
        exec(code, module.__dict__)

    _reply(channel, limit, objects, load)
    while True:
        request = receive(channel)
        _reply(channel, limit, objects, partial(_perform, request, module, objects))


class Objects:
    """Objects of this process that the other one refers to, by number."""

    def __init__(self) -> None:
        self.compiled = False
        self._objects: list[object] = []
        self._numbers: dict[int, int] = {}

    def reference(self, value: object) -> int:
        """Number of an object."""
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return self._numbers[id(value)]

    def object(self, number: Any) -> object:
        """The object with a number."""
        return self._objects[number]


def _reply(channel: socket.socket, limit: int, objects: Objects, action: Callable[[], object]) -> None:
    try:
        message = {"value": encode(action(), objects.reference)}
    except ClosedError:
        raise
    except BaseException as error:  # noqa: BLE001 (a program may raise anything)
        message = {"error": _described(error, compiled=objects.compiled), "arguments": _arguments(error)}
    try:
        send(channel, message, limit)
    except TooLargeError:
        send(channel, {"error": ["TooLargeError", "the value is larger than the limit", ""]})


def _described(error: BaseException, *, compiled: bool) -> list[str]:
    """Name of a built-in exception, the message, and what it says about the program beyond that."""
    if not compiled:
        return ["SyntaxError", _text(error), "compile_error"]
    kinds = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    forbidden = isinstance(error, PermissionError) and error.errno == 1
    return [kinds[0] if kinds else "Exception", _text(error), "forbidden" if forbidden else ""]


def _arguments(error: BaseException) -> Any:
    """Arguments of a built-in exception; of others, its message."""
    try:
        of_python = type(error).__module__ == builtins.__name__
        return encode(error.args if of_python else (str(error)[:300],), _no_object)
    except BaseException:  # noqa: BLE001 (its text may raise as well)
        return None


def _no_object(value: object) -> object:
    raise TypeError(f"a {type(value).__name__} is no plain value")


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # noqa: BLE001 (its text may raise as well)
        return type(error).__name__


def _perform(request: dict[str, Any], module: types.ModuleType, objects: Objects) -> object:
    """Carries out one request; a call gives its result and its arguments, which it may have changed."""
    target: Any = _target(request["target"], module, objects)
    known = partial(_target, module=module, objects=objects)
    arguments = [decode(part, known) for part in request.get("arguments", ())]
    keywords = {name: decode(part, known) for name, part in request.get("keywords", {}).items()}
    match request["do"]:
        case "call":
            given = [*arguments, *keywords.values()]
            before = [encode(part, objects.reference) for part in given]
            result = target(*arguments, **keywords)
            after = [encode(part, objects.reference) for part in given]
            return (result, None if after == before else given)
        case "next":
            return _items(target, arguments[0])
        case "text":
            return repr(target) if arguments == ["repr"] else str(target)
        case name:
            return _OPERATIONS[name](target, *arguments)


def _items(iterator: Any, count: Any) -> list[object]:
    """At most so many items of an iterator; []: it has no more."""
    found: list[object] = []
    try:
        while len(found) < count:
            found.append(next(iterator))
    except StopIteration:
        pass
    return found


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "set": setattr,
    "item": operator.getitem,
    "set_item": operator.setitem,
    "length": len,
    "iterate": iter,
    "has": lambda kind, value: isinstance(value, kind),
    "above": lambda kind, other: issubclass(other, kind),
}


def _target(target: Any, module: types.ModuleType, objects: Objects) -> Any:
    """An object by its number, or by its name in the program: ``add``, ``Solution.add`` (of a new instance)."""
    if isinstance(target, int):
        return objects.object(target)
    name, *attributes = target.split(".")
    if name not in module.__dict__:
        raise NameError(f"the program does not define {name}")
    value = module.__dict__[name]
    for attribute in attributes:
        value = getattr(value() if isinstance(value, type) else value, attribute)
    return value
