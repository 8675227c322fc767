"""Programs that no test may accept, made without a solution: constants, and attacks on tests and sandbox.

A constant may be right by chance (a test with one expected value), which says that tests are unspecific. An attack is
never right: where one passes and the `MutantKind.CONTROL` of the same result does not, the tests or the sandbox are
broken. The attacks are in `attacks`. Used by the audit of code tasks, `mutants` has copies of a solution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from burnish.sandbox.attacks import ATTACKS, EXITS, MARKERS, SCRIPT_ATTACKS, WRONG
from burnish.sandbox.mutants import Mutant, MutantKind, named_apart

_CONSTANTS: tuple[object, ...] = (None, 0, 1, "", [], True, False)
_EXPECTED = 3
"""Number of expected values that are tried, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class TestedNames:
    """What tests use of a program. Example: ``TestedNames(("Solution.add",))``."""

    __test__ = False  # pytest takes the name for a class of tests

    functions: tuple[str, ...]
    """Functions, and methods as ``Solution.add``."""
    classes: tuple[str, ...] = ()
    """Classes whose methods are not known."""


def constants_of_functions(names: TestedNames, expected: Iterable[object]) -> tuple[Mutant, ...]:
    """Programs whose functions return a constant or their first argument.

    Args:
        names: what the tests use.
        expected: plain values that tests expect, in the order of the tests: the first and the most frequent are tried.
    """
    programs = [("identity: returns its first argument", "return arguments[0]")]
    texts = list(map(repr, expected))
    frequent = [text for text, _ in Counter(texts).most_common(_EXPECTED)]
    programs += [(f"constant: {text:.60}", f"return {text}") for text in map(repr, _CONSTANTS)]
    programs += [
        (f"constant: {text:.60}, which tests expect", f"return {text}")
        for text in dict.fromkeys(texts[:1] + frequent)
        if text not in map(repr, _CONSTANTS)
    ]
    return named_apart(Mutant(name, MutantKind.CONSTANT, program_of(names, body)) for name, body in programs)


def constants_of_scripts(expected: Sequence[str]) -> tuple[Mutant, ...]:
    """Programs that print nothing, their input, or what tests expect: the first and the most frequent texts."""
    frequent = [text for text, _ in Counter(expected).most_common(_EXPECTED)]
    programs = {"constant: prints nothing": "pass\n", "identity: prints its input": _ECHO}
    for text in dict.fromkeys([*expected[:1], *frequent]):
        if text.strip():
            programs[f"constant: prints {text!r:.60}, which tests expect"] = f"print({text!r}, end='')\n"
    return named_apart(Mutant(name, MutantKind.CONSTANT, source) for name, source in programs.items())


_ECHO = "import sys\nsys.stdout.write(sys.stdin.read())\n"


def attacks_of_functions(names: TestedNames) -> tuple[Mutant, ...]:
    """The control, and programs that attack tests of functions."""
    control = Mutant(
        "control: returns a text that is no result", MutantKind.CONTROL, program_of(names, f"return {WRONG!r}")
    )
    exits = [
        Mutant(f"{name}, when imported", MutantKind.ATTACK, f"{source}\n{program_of(names, 'return None')}")
        for name, source in (*EXITS.items(), *MARKERS.items())
    ]
    inside = [
        Mutant(f"{name}, when called", MutantKind.ATTACK, program_of(names, f"{source}"))
        for name, source in (*EXITS.items(), *MARKERS.items())
    ]
    others = [Mutant(attack.name, MutantKind.ATTACK, program_of(names, attack.body, attack.top)) for attack in ATTACKS]
    return (control, *exits, *inside, *others)


def attacks_of_scripts(expected: Iterable[str]) -> tuple[Mutant, ...]:
    """The control, and programs that attack tests of standard output. Texts that a test expects are not printed."""
    right = {text.strip() for text in expected}
    control = Mutant("control: prints a text that is no result", MutantKind.CONTROL, f"print({WRONG!r})\n")
    attacks = {**MARKERS, **SCRIPT_ATTACKS}
    # An exit alone prints nothing, which may be right: it prints the control's text first.
    attacks |= {name: f"print({WRONG!r}, flush=True)\n{source}" for name, source in EXITS.items()}
    programs = (Mutant(name, MutantKind.ATTACK, source) for name, source in attacks.items())
    printed = {name: {line.strip() for line in _printed(source)} for name, source in MARKERS.items()}
    return (control, *(program for program in programs if not printed.get(program.name, set()) & right))


def _printed(source: str) -> Iterator[str]:
    """The texts in double quotes of a program of `MARKERS`."""
    yield from source.split('"')[1::2]


def program_of(names: TestedNames, body: str, top: str = "") -> str:
    """Program in which every function has a body, with its arguments as ``arguments`` and ``keywords``.

    Args:
        names: the functions; a class becomes one whose methods all are this function.
        body: statements of the function.
        top: statements before all functions.
    """
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    lines = [f"{top}\n" if top else "", f"def _answer(*arguments, **keywords):\n{indented}\n"]
    methods = sorted(name.split(".", 1) for name in names.functions if "." in name)
    for owner, entries in groupby(methods, key=lambda entry: entry[0]):
        lines.append(f"class {owner}:\n")
        lines += [
            f"    def {method}(self, *arguments, **keywords):\n        return _answer(*arguments, **keywords)\n"
            for _, method in entries
        ]
    lines += [
        f"def {name}(*arguments, **keywords):\n    return _answer(*arguments, **keywords)\n"
        for name in names.functions
        if "." not in name
    ]
    lines += [
        f"class {name}:\n    def __init__(self, *arguments, **keywords):\n        pass\n"
        "    def __getattr__(self, attribute):\n        return _answer\n"
        for name in names.classes
    ]
    return "".join(lines)
