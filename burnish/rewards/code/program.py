"""Extraction of the program from a response: fenced blocks, the block with the tested function, completions.

The code comes after the thought, as the answers of other rewards do (`normalize.without_thoughts`). Nothing is run.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.rewards.code.syntax import (
    defined,
    does_something,
    ends_in_text,
    fault_line,
    function_in,
    parsed,
    size,
)
from burnish.rewards.normalize import without_thoughts

Extract = Literal["auto", "last_block", "named_block", "answer"]
"""Place of the program in a response, see `program_of`."""

PYTHON = frozenset({"", "python", "python3", "py", "py3", "pycon", "ipython", "ipython3"})
"""First words of a fence's info string that mark Python; "": a fence without one."""
_FENCE = re.compile(r"^(?P<indent>[ \t]*(?:>[ \t]?)*)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_WORD = re.compile(r"[\s{.]*([\w+#-]*)")
_PROMPTS = (">>>", "...")
_MAX_CUTS = 16
"""Number of times that the end of a completion or of a block is looked for."""


@dataclass(frozen=True, slots=True)
class Block:
    """Fenced block. Example: ``Block("python", "x = 1", start=10)``."""

    language: str
    """First word of the info string, in lower case; "": none."""
    code: str
    """Its lines, as they are indented in the response."""
    start: int
    """Index of its first fence in the text."""

    @property
    def is_python(self) -> bool:
        return self.language in PYTHON


def program_of(text: str, extract: Extract, names: Collection[str] = (), stub: str = "") -> str | None:
    """Program of a response; None: it has none.

    ``last_block``: the last fenced block. ``named_block``: the last block that defines one of `names`. ``answer``: the
    whole answer. ``auto``: the named block; otherwise the answer as a completion of `stub`; otherwise the last block;
    otherwise the whole answer if it is Python and does more than state names and values.

    A fence is three or more backticks or tildes. Blocks of another language than Python do not count; one without a
    closing fence ends with the answer; a fence within a text of triple quotes closes nothing. Indentation that all
    lines share is removed, and so are the prompts and the output of an interactive session (``>>>``).

    Args:
        text: the whole response, with its thought; one that is not closed has no program.
        extract: see above.
        names: names that the tests use, ``Class.method`` for a method.
        stub: code of the prompt that defines one of `names` and may be continued. If the program does not define that
            name itself, it is joined to the stub; if it does, the other statements of the stub (imports, helpers) come
            before it.
    """
    answer = without_thoughts(_unix_lines(text))
    if not answer.strip():
        return None
    found = [block for block in blocks(answer) if block.is_python and block.code.strip()]
    if extract == "last_block":
        return joined(found[-1].code, names, stub) if found else None
    if extract == "named_block":
        return next((joined(block.code, names, stub) for block in reversed(found) if _defines(block.code, names)), None)
    if extract == "answer":
        return joined(answer, names, stub)
    named = next((block for block in reversed(found) if _defines(block.code, names)), None)
    if named is not None:
        return joined(named.code, names, stub)
    if (completed := _completed(answer, names, stub)) is not None:
        return completed
    if found:
        return joined(found[-1].code, names, stub)
    tree = parsed(plain(answer))
    return joined(answer, names, stub) if tree is not None and does_something(tree) else None


def joined(code: str, names: Collection[str], stub: str) -> str:
    """Program of a piece of code and the stub of the prompt, see `program_of`."""
    own = plain(code)
    if not stub:
        return own
    if not _defines(own, names):
        return _completed(code, names, stub) or own
    before = preamble(stub, names)
    program = f"{before}\n{own}"
    return program if before and fault_line(program) is None else own


def preamble(stub: str, names: Collection[str]) -> str:
    """Statements of a stub that define none of the names: its imports and helpers."""
    tree = parsed(stub)
    if tree is None:
        return ""
    lines = stub.split("\n")
    kept = [statement for statement in tree.body if not defined([statement]) & set(names)]
    starts = [min([each.lineno, *(d.lineno for d in getattr(each, "decorator_list", ()))]) for each in kept]
    parts = ("\n".join(lines[start - 1 : each.end_lineno]) for start, each in zip(starts, kept, strict=True))
    return "\n".join(parts)


def stub_of(prompt: str, names: Collection[str]) -> str:
    """Code of a prompt that defines one of the names: all of the prompt, or its last such block; "": there is none."""
    text = _unix_lines(prompt)
    if _defines(text, names):
        return text
    found = (block.code for block in reversed(list(blocks(text))) if block.is_python)
    return next((textwrap.dedent(code) for code in found if _defines(code, names)), "")


def plain(code: str) -> str:
    """Code without the indentation that all lines share, and without the prompts of an interactive session."""
    bare = textwrap.dedent(code).strip("\n")
    first = next((line for line in bare.split("\n") if line.strip()), "")
    if not first.startswith(">>>"):
        return bare
    session = (line for line in bare.split("\n") if line.startswith(_PROMPTS))
    return "\n".join(line[3:].removeprefix(" ") for line in session)


def blocks(text: str) -> Iterator[Block]:
    """Fenced blocks of a text, in order."""
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    at = 0
    while at < len(lines):
        opened = _FENCE.match(lines[at])
        if opened is None or ("`" in opened["fence"] and "`" in opened["info"]):
            at += 1
            continue
        end = _end_of_block(lines, at, opened["fence"])
        word = _WORD.match(opened["info"])
        yield Block(word[1].lower() if word else "", _unquoted(lines[at + 1 : end], opened["indent"]), starts[at])
        at = end + 1


def _end_of_block(lines: Sequence[str], opening: int, fence: str) -> int:
    """Index of the line that closes a block; the number of lines if none does.

    A fence that leaves a text of triple quotes open is a part of it, if a later fence closes both.
    """
    first = None
    closing = (at for at in range(opening + 1, len(lines)) if _closes(lines[at], fence))
    for at in itertools.islice(closing, _MAX_CUTS):
        if not ends_in_text(textwrap.dedent("\n".join(lines[opening + 1 : at]))):
            return at
        first = at if first is None else first
    return len(lines) if first is None else first


def _closes(line: str, fence: str) -> bool:
    bare = line.lstrip(" \t>").rstrip()
    return len(bare) >= len(fence) and set(bare) == {fence[0]}


def _unquoted(lines: Sequence[str], indent: str) -> str:
    """Lines of a block in a quotation, without its marks; others as they are."""
    if ">" not in indent:
        return "\n".join(lines)
    return "\n".join(re.sub(r"^[ \t]*(?:>[ \t]?)+", "", line) for line in lines)


def _completed(code: str, names: Collection[str], stub: str) -> str | None:
    """Stub and the code that continues it; None: they are no Python together, or the function is as it was."""
    tree = parsed(stub) if stub else None
    if tree is None:
        return None
    before = _sizes(tree, names)
    beginning = stub if stub.endswith("\n") else f"{stub}\n"
    for cuts in (0, _MAX_CUTS):
        for rest in _continuations(code):
            program = _compiled(beginning, rest, cuts)
            whole = None if program is None else parsed(program)
            if whole is not None and _sizes(whole, names) > before:
                return program
    return None


def _sizes(tree: ast.Module, names: Collection[str]) -> int:
    return sum(size(function_in(tree, name)) for name in names)


def _compiled(beginning: str, rest: str, cuts: int) -> str | None:
    """A program, without what follows the last line that begins without indentation before its fault, as often as
    allowed: what follows a function may be no Python. None: it does not compile."""
    lines = rest.split("\n")
    num_before = beginning.count("\n")
    for _ in range(cuts + 1):
        program = beginning + "\n".join(lines)
        fault = fault_line(program)
        if fault is None:
            return program
        last = min(fault - num_before, len(lines)) - 1
        while last > 0 and not lines[last][:1].strip():
            last -= 1
        if last <= 0:
            return None
        lines = lines[:last]
    return None


def _continuations(code: str) -> Iterator[str]:
    """The code as it is, with its first line indented, and all of it indented: a completion loses its indentation."""
    rest = code.strip("\n")
    yield rest
    if not rest[:1].isspace():
        yield f"    {rest}"
        yield textwrap.indent(rest, "    ")


def _defines(code: str, names: Collection[str]) -> bool:
    tree = parsed(plain(code))
    return tree is not None and bool(defined(tree.body) & set(names))


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
