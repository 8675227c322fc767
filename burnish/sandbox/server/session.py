"""Interpreter whose state is kept between calls: the tool of a model that writes code while it answers."""

from __future__ import annotations

import ast
import contextlib
import io
import socket
import sys
import traceback
import types
from typing import Any

from burnish.sandbox.server.exchange import receive, send


def serve(control: socket.socket, limit: int) -> None:
    """Executes what it receives, and answers with output and error, until the channel is closed.

    Args:
        control: to the caller.
        limit: bytes of output of one call.
    """
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    while True:
        source = receive(control)["source"]
        output = _Bounded(limit)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            error = _execute(source, module.__dict__)
        send(control, {"output": output.getvalue(), "error": error, "cut": output.cut})


class _Bounded(io.StringIO):
    """Text up to a number of characters; the rest is dropped."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit
        self.cut = False

    def write(self, text: str) -> int:
        kept = text[: self._left]
        self.cut = self.cut or len(kept) < len(text)
        self._left -= len(kept)
        super().write(kept)
        return len(text)


def _execute(source: str, variables: dict[str, Any]) -> str:
    """Runs statements; prints the value of a last expression, as an interpreter does. The traceback, "": none."""
    try:
        tree = ast.parse(source, "<session>")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<session>", "exec"), variables)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<session>", "eval"), variables)  # type: ignore[attr-defined]
            if value is not None:
                print(repr(value))
    except BaseException as error:  # noqa: BLE001 (a program may raise anything)
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        return "".join(traceback.format_exception(type(error), error, trace))[-4000:]
    return ""
