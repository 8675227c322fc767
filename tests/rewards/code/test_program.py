"""Extraction of programs from responses."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.rewards.code.program import Extract, blocks, plain, preamble, program_of, stub_of
from burnish.rewards.code.syntax import defined, parsed

ADD = "def add(a, b):\n    return a + b"
SUB = "def sub(a, b):\n    return a - b"
NAMES = frozenset({"add"})
STUB = '''from math import floor

def half(x):
    return x / 2

def add(a, b):
    """Adds.

    >>> add(1, 2)
    3
    """
'''
DOCUMENTED = 'def add(a, b):\n    """Adds.\n\n    ```\n    add(1, 2)\n    ```\n    """\n    return a + b'


def fence(code: str, language: str = "python", mark: str = "```") -> str:
    return f"{mark}{language}\n{code}\n{mark}"


FOUND: dict[str, tuple[str, str | None]] = {
    "a block": (f"Here:\n{fence(ADD)}\nDone.", ADD),
    "without a language": (fence(ADD, ""), ADD),
    "with attributes": (fence(ADD, '{.python title="x.py"}'), ADD),
    "in capitals": (fence(ADD, "Python 3"), ADD),
    "tildes": (fence(ADD, "py", "~~~"), ADD),
    "four backticks": (fence(f"# ```\n{ADD}", "python", "````"), f"# ```\n{ADD}"),
    "Windows line ends": (fence(ADD).replace("\n", "\r\n"), ADD),
    "a fence that is not closed": (f"So:\n```python\n{ADD}", ADD),
    "indented in a list": (f"1. So:\n\n{textwrap.indent(fence(ADD), '   ')}", ADD),
    "in a quotation": (textwrap.indent(fence(ADD), "> ", lambda _: True), ADD),
    "the last block that defines the function": (f"{fence(ADD)}\n{fence('add(1, 2)')}\n{fence('3', 'text')}", ADD),
    "the last of two that define it": (f"{fence('add = None')}\n{fence(ADD)}", ADD),
    "no block defines it: the last of Python": (f"{fence(ADD.replace('add', 'plus'))}\n{fence(SUB)}", SUB),
    "another language": (fence(ADD, "javascript"), None),
    "another language last": (f"{fence(SUB)}\n{fence('ls', 'bash')}", SUB),
    "a fence in a docstring": (f"{fence(DOCUMENTED)}\nand\n{fence('1', 'text')}", DOCUMENTED),
    "no block": (f"{ADD}\n", ADD),
    "no block, a program": ("n = int(input())\nprint(n)", "n = int(input())\nprint(n)"),
    "prose": ("I do not know.", None),
    "prose that is Python": ("Yes", None),
    "a session": (fence(">>> def f(a):\n...     return a\n...\n>>> f(1)\n1"), "def f(a):\n    return a\n\nf(1)"),
    "after a thought": (f"<think>{fence(SUB)}</think>{fence(ADD)}", ADD),
    "within a thought": (f"<think>{fence(ADD)}", None),
    "only within a thought": (f"<think>{fence(ADD)}</think>I do not know.", None),
    "empty": ("", None),
    "an empty block": ("```python\n```", None),
    "broken code": (fence("def add(a, b:\n    return"), "def add(a, b:\n    return"),
    "inline code": ("`add = sum`", None),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_the_program_of_a_response(name: str) -> None:
    text, expected = FOUND[name]
    assert program_of(text, "auto", NAMES) == expected


@pytest.mark.parametrize(
    ("extract", "expected"), [("last_block", "x = 1"), ("named_block", ADD), ("auto", ADD), ("answer", None)]
)
def test_the_places(extract: Extract, expected: str | None) -> None:
    text = f"First\n{fence(ADD)}\nthen\n{fence('x = 1')}"
    assert program_of(text, extract, NAMES) == (text if expected is None else expected)


def test_a_place_that_is_empty_has_no_program() -> None:
    assert program_of(ADD, "last_block", NAMES) is None
    assert program_of(fence(SUB), "named_block", NAMES) is None


COMPLETIONS = {
    "as it is": "    return a + b\n",
    "without its first indentation": "return a + b",
    "several lines, the first not indented": "c = a + b\n    return c",
    "none of its lines indented": "c = a + b\nreturn c",
    "in a block": fence("    return a + b"),
    "in a block, with prose": f"Here is the body:\n{fence('return a + b')}\nIt adds.",
    "followed by prose": "    return a + b\n\nThis function adds the numbers.",
    "followed by a fence": "    return a + b\n```\n\nIt adds.",
    "all of it": f"{STUB}    return a + b",
    "the function alone": ADD,
    "the function in a block": fence(ADD),
    "stub and body in a block": fence(f"{STUB}    return a + b"),
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_completion_is_joined_to_the_code_of_the_prompt(name: str) -> None:
    program = program_of(COMPLETIONS[name], "auto", NAMES, STUB)
    assert program is not None
    names: dict[str, object] = {}
    exec(program, names)
    assert names["add"](1, 2) == 3  # type: ignore[operator]
    assert names["half"](3) == 1.5  # type: ignore[operator]
    assert "floor" in names


@pytest.mark.parametrize("text", ["", "I cannot do it.", "pass", '"""Adds."""', STUB])
def test_what_completes_nothing_is_no_right_program(text: str) -> None:
    program = program_of(text, "auto", NAMES, STUB)
    names: dict[str, object] = {}
    if program is not None and parsed(program) is not None:
        exec(program, names)
        assert names.get("add", lambda a, b: None)(1, 2) is None  # type: ignore[operator]


def test_the_stub_is_all_of_the_prompt_or_its_block() -> None:
    assert stub_of(STUB, NAMES) == STUB
    assert stub_of(f"Complete the function:\n{fence(STUB.strip())}\nThink first.", NAMES) == STUB.strip()
    assert stub_of("Write a function add.", NAMES) == ""


def test_helpers_of_the_stub_come_without_the_function() -> None:
    tree = parsed(preamble(STUB, NAMES))
    assert tree is not None
    assert defined(tree.body) == {"floor", "half"}


def test_a_future_import_stays_first() -> None:
    program = program_of(fence(f"from __future__ import annotations\n{ADD}"), "auto", NAMES, STUB)
    assert program is not None
    assert parsed(program) is not None
    exec(compile(program, "p", "exec"), {})


LINES = st.lists(st.text(alphabet="abc=1 :#\"'()", max_size=12), max_size=6).map("\n".join)


@given(LINES, st.sampled_from(["```", "~~~", "````"]), LINES, LINES)
def test_a_block_is_found_whatever_stands_around_it(code: str, mark: str, before: str, after: str) -> None:
    text = f"{before}\n{fence(code, 'python', mark)}\n{after}"
    assert [block.code for block in blocks(text)] == [code]


@given(st.text(max_size=200), st.sampled_from(["auto", "last_block", "named_block", "answer"]))
def test_every_text_gives_a_program_or_none(text: str, extract: Extract) -> None:
    program = program_of(text, extract, NAMES, STUB)
    assert program is None or program.strip()


@given(LINES, st.integers(1, 8))
def test_shared_indentation_has_no_meaning(code: str, depth: int) -> None:
    assert plain(textwrap.indent(plain(code), " " * depth)) == plain(plain(code))


@pytest.mark.parametrize(
    "text", ["(" * 5000, "```python\n" + "[" * 100_000, "```\n" * 5000, '```\n"""\n' * 300, "a\n" * 5000]
)
def test_strange_texts_end(text: str) -> None:
    program_of(text, "auto", NAMES, STUB)


@pytest.mark.parametrize("depth", [10, 300, 700, 3000])
@pytest.mark.parametrize(
    "nested",
    [
        "if x == 0:\n    y = 0\n{elifs}",
        "y = 1{sums}\n",
        "y = x{names}\n",
        "y = {nots}1\n",
    ],
)
def test_a_program_that_is_nested_deeply_is_one_or_none(nested: str, depth: int) -> None:
    """An error would be a failure of the reward, which a response could bring about to avoid being graded."""
    code = nested.format(
        elifs="".join(f"elif x == {number}:\n    y = {number}\n" for number in range(1, depth)),
        sums="+1" * depth,
        names=".b" * depth,
        nots="not " * depth,
    )
    own = f"{code}def add(a, b):\n    return a + b\n"
    for stub in ("", "def add(a, b):\n    ...\n"):
        for text in (own, f"```python\n{own}```"):
            found = program_of(text, "auto", {"add"}, stub)
            assert found is None or own.strip() in found
