"""Process of the tests: runs them on a program that is in another process (`candidate`), and reports verdicts.

The program's functions and classes are stand-ins here, which send plain values there and back. So a test compares
values of this process with the operators of this process.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import socket
import symtable
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from burnish.sandbox.server.compare import matches
from burnish.sandbox.server.exchange import ClosedError, decode, encode, receive, send

_ABBREVIATIONS = {"np": "numpy", "numpy": "numpy", "pd": "pandas", "pandas": "pandas"}
"""Modules that tests use without an import: what the program has under the name could say that anything is equal."""
_MUTABLE = (list, dict, set, bytearray)
_MAX_AHEAD = 256
"""Items of an iterator that are asked for at once."""


class RemoteError(BaseException):
    """The program ended, or did what no test may excuse; `status` is the verdict of the test."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def serve(control: socket.socket) -> None:
    """Runs the tests of requests and reports to their sender, until it closes the channel.

    Before each request comes one byte with a descriptor: the channel to the process of its program.

    Args:
        control: to the sender.
    """
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        with socket.socket(fileno=descriptors[0]) as channel:
            request = receive(control)
            _serve(control, request, Program(channel, request["limit"]))
        send(control, {"done": True})


def _serve(control: socket.socket, request: dict[str, Any], program: Program) -> None:
    """Runs the tests of one request."""
    try:
        tests = [_Test(entry) for entry in request["tests"]]
        setup = compile(request["setup"], "<setup>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        send(control, {"broken": f"{type(error).__name__}: {error}"})
        return
    if failure := program.unconfined():
        send(control, {"failed": failure})
        return
    send(control, {"begin": "load"})
    try:
        program.load(request["program"])
    except BaseException as error:  # noqa: BLE001 (the program may raise anything)
        _report(control, "load", error)
        return
    try:
        variables = _variables(request, program)
    except ImportError as error:
        send(control, {"broken": f"they need a module that is not installed: {error}"})
        return
    failed = _run_setup(setup, variables)
    if failed is not None and not program.used:
        send(control, {"broken": f"the setup raised {type(failed).__name__}: {failed}"[:300]})
        return
    variables.update({name: Remote(program, name) for name in request["names"]})  # the setup may have them too
    for index, test in enumerate(tests):
        send(control, {"begin": index})
        try:
            test.run(program, variables, failed)
        except BaseException as error:  # noqa: BLE001 (anybody's code)
            _report(control, index, error)
            if request["stop_early"]:
                return
        else:
            send(control, {"end": index, "status": "passed", "detail": ""})


def _run_setup(setup: CodeType, variables: dict[str, Any]) -> BaseException | None:
    """What the setup raised."""
    try:
        exec(setup, variables)
    except BaseException as error:  # noqa: BLE001 (anybody's code)
        return error
    return None


def _report(control: socket.socket, index: object, error: BaseException) -> None:
    status, detail = "runtime_error", f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, RemoteError):
        status, detail = error.status, str(error)
    elif isinstance(error, UnsendableError):
        status = "broken"
    elif hasattr(error, "_of_the_program"):
        detail = str(error._of_the_program)
    elif isinstance(error, AssertionError):
        status, detail = "wrong_answer", str(error)[:300]
    send(control, {"end": index, "status": status, "detail": detail[:300]})


class UnsendableError(TypeError):
    """A test passes something that is not plain to the program."""


class Program:
    """The program in the other process."""

    def __init__(self, channel: socket.socket, limit: int) -> None:
        self.used = False
        """Whether anything was asked of it."""
        self.failure: RemoteError | None = None
        self._channel = channel
        self._limit = limit
        self._objects: dict[int, Remote] = {}

    def reply(self) -> Any:
        """Receives a value; raises what the program raised."""
        try:
            message = receive(self._channel, self._limit + 64)
            if "value" in message:
                return decode(message["value"], self.object)
            kind, detail, status = map(str, message["error"])
            arguments = decode(message.get("arguments"), _nothing)
        except ClosedError:
            raise self.failed("exited", "the program ended") from None
        except Exception as error:
            raise self.failed("runtime_error", "what the program returned is not a value") from error
        raised = _raised(kind, detail, status, arguments if isinstance(arguments, tuple) else (detail,))
        raise self.failed(raised.status, detail) if isinstance(raised, RemoteError) else raised

    def failed(self, status: str, detail: str) -> RemoteError:
        """Failure of the program that no test may catch: it counts whatever the test does next."""
        self.failure = self.failure or RemoteError(status, detail)
        return self.failure

    def check(self) -> None:
        """Raises a failure that a test has caught."""
        if self.failure is not None:
            raise self.failure

    def unconfined(self) -> str:
        """Why the process of the program is not confined; "": it is."""
        try:
            said = receive(self._channel)
        except ClosedError:
            said = {}
        return (
            "" if "confined" in said else str(said.get("failed", "the program's process ended before it was confined"))
        )

    def load(self, source: str) -> None:
        """Sends the program and waits until it is loaded; raises what it raised."""
        try:
            send(self._channel, {"program": source})
        except ClosedError:
            raise self.failed("exited", "the program ended") from None
        self.reply()

    def ask(self, do: str, target: object, *arguments: object, **more: Any) -> Any:
        """Asks the program for something, and waits for the value."""
        self.used = True
        sent = [encode(argument, _reference) for argument in arguments]
        self.check()
        try:
            send(self._channel, {"do": do, "target": target, "arguments": sent, **more})
        except ClosedError:
            raise self.failed("exited", "the program ended") from None
        return self.reply()

    def call(self, target: object, arguments: tuple[object, ...], keywords: Mapping[str, object]) -> Any:
        """Calls a function of the program. Lists and the like that it changed are changed here."""
        sent = {name: encode(value, _reference) for name, value in keywords.items()}
        answer = self.ask("call", target, *arguments, keywords=sent)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise self.failed("runtime_error", "what the program returned is not a value")
        result, changed = answer
        given = [*arguments, *keywords.values()]
        if isinstance(changed, list) and len(changed) == len(given):
            for own, new in zip(given, changed, strict=True):
                _overwrite(own, new)
        return result

    def object(self, number: Any) -> Remote:
        """Stand-in of an object of the program."""
        if not isinstance(number, int):
            raise TypeError("no number")
        return self._objects.setdefault(number, Remote(self, number))


class Remote:
    """Stand-in of an object of the program. Equal to itself alone: what an object of the program says of being equal
    does not count."""

    def __init__(self, program: Program, target: int | str) -> None:
        self.__dict__["_program"] = program
        self.__dict__["_target"] = target
        self.__dict__["_ahead"] = deque()
        self.__dict__["_count"] = 1

    def __call__(self, *arguments: object, **keywords: object) -> Any:
        return self._program.call(self._target, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.ask("get", self._target, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._program.ask("set", self._target, name, value)

    def __getitem__(self, key: object) -> Any:
        return self._program.ask("item", self._target, key)

    def __setitem__(self, key: object, value: object) -> None:
        self._program.ask("set_item", self._target, key, value)

    def __len__(self) -> int:
        return int(self._program.ask("length", self._target))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        items = self._program.ask("iterate", self._target)
        if not isinstance(items, Remote):
            raise self._program.failed("runtime_error", "it cannot be iterated")
        return items

    def __next__(self) -> Any:
        # A few items more are asked for each time: a test may want one of an iterator that never ends, or all.
        if not self._ahead:
            items = self._program.ask("next", self._target, self._count)
            if not isinstance(items, list):
                raise self._program.failed("runtime_error", "it cannot be iterated")
            self._ahead.extend(items)
            self.__dict__["_count"] = min(2 * self._count, _MAX_AHEAD)
        if not self._ahead:
            raise StopIteration
        return self._ahead.popleft()

    def __instancecheck__(self, value: object) -> bool:
        return self._program.ask("has", self._target, value) is True

    def __subclasscheck__(self, other: object) -> bool:
        return self._program.ask("above", self._target, other) is True

    def __str__(self) -> str:
        return str(self._program.ask("text", self._target, "str"))

    def __repr__(self) -> str:
        return str(self._program.ask("text", self._target, "repr"))


class _Test:
    """One test, read from a request."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self._code = compile(entry["source"], "<test>", "exec", dont_inherit=True) if "source" in entry else None
        self._call = entry.get("call")

    def run(self, program: Program, variables: dict[str, Any], failed: BaseException | None) -> None:
        """Raises if the program is wrong, or if the setup has `failed`."""
        if failed is not None:
            raise failed
        if self._code is not None:
            exec(self._code, variables)
            program.check()
            return
        assert self._call is not None, "a test has a source or a call"
        arguments, keywords, expected = (decode(self._call[key], _nothing) for key in ("args", "kwargs", "expected"))
        got = program.call(self._call["function"], tuple(arguments), keywords)
        same = got == expected if self._call["exact"] else matches(got, expected)
        if not same:
            raise AssertionError(f"it returned {_shown(got)}, not {_shown(expected)}")


def _shown(value: object) -> str:
    try:
        return f"{value!r:.120}"
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"a {type(value).__name__} with a number of too many digits"


def _raised(kind: str, detail: str, status: str, arguments: tuple[object, ...]) -> BaseException:
    """Exception for what the program raised: a built-in one, which a test may expect, or a verdict."""
    if status in ("compile_error", "forbidden"):
        return RemoteError(status, detail)
    if kind in ("MemoryError", "TooLargeError"):
        return RemoteError("memory" if kind == "MemoryError" else "output", detail)
    if kind in ("SystemExit", "KeyboardInterrupt", "GeneratorExit"):
        return RemoteError("exited", detail)
    if kind in ("StopIteration", "StopAsyncIteration"):
        kind = "RuntimeError"  # else it would end a loop of the test (``all(map(...))``), and the test would pass
    known = getattr(builtins, kind, None)
    usual: Any = known if isinstance(known, type) and issubclass(known, Exception) else Exception
    try:
        error: Exception = usual(*arguments)
    except (TypeError, ValueError):  # it needs other arguments, such as UnicodeDecodeError
        error = RuntimeError(detail)
    error._of_the_program = detail  # type: ignore[attr-defined]
    return error


def _variables(request: dict[str, Any], program: Program) -> dict[str, Any]:
    """Global names of the tests: stand-ins for those of the program, and modules of the standard library, which stand
    before a point only (``math.pi``)."""
    variables: dict[str, Any] = {"__name__": "tests"}
    source = "\n".join([request["setup"], *(entry.get("source", "") for entry in request["tests"])])
    bare = _bare_names(source)
    for name in [*_free_names(source), *request["names"]]:
        module = _ABBREVIATIONS.get(name, name if name in sys.stdlib_module_names else "")
        if module and name not in bare and name not in request["names"]:
            variables[name] = importlib.import_module(module)
        else:
            variables[name] = Remote(program, name)
    return variables


def _free_names(source: str) -> list[str]:
    """Names that a text uses and neither defines nor has from Python."""
    used: set[str] = set()
    defined: set[str] = set()
    tables = [symtable.symtable(source, "<tests>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table.get_type() == "module":
                (defined if symbol.is_assigned() or symbol.is_imported() else used).add(symbol.get_name())
            elif symbol.is_global():
                (defined if symbol.is_assigned() else used).add(symbol.get_name())
    return sorted(used - defined - set(dir(builtins)))


def _bare_names(source: str) -> set[str]:
    """Names that stand alone somewhere, as a function does that is called, and not only before a point."""
    tree = ast.parse(source)
    owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in owners}


def _overwrite(own: Any, new: Any) -> None:
    """Gives a list, dictionary or set the content that the program gave its copy."""
    if type(own) is not type(new) or not isinstance(own, _MUTABLE):
        return
    if isinstance(own, list | bytearray):
        own[:] = new
    else:
        own.clear()
        own.update(new)


def _reference(value: object) -> object:
    if isinstance(value, Remote):
        return value._target
    raise UnsendableError(f"a test passes a {type(value).__name__} to the program, which is no plain value")


def _nothing(_: object) -> object:
    raise ValueError("a test has plain values only")
