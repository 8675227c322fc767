"""Text as verifiers see it: what is left of an answer once thoughts, repeated questions and disguises are taken off.

The lowest file of the verifiers; pure functions of text.
"""

from __future__ import annotations

import re
import unicodedata

_HEDGES = """or and not no isn't is isnt maybe perhaps possibly probably either neither if but unless approximately
about wrong incorrect false other"""
HEDGES = frozenset(_HEDGES.split())
"""Words that make several answers of one, or none."""

_LEAST = 12
"""Characters of a line or sentence that counts as a copy of the prompt; shorter ones are said by anybody."""
_SHORT = 5
_MATHEMATICAL = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
        "×": "\\times ",
        "·": "\\cdot ",
        "⋅": "\\cdot ",
        "π": "\\pi ",
        "∞": "\\infty ",
        "°": "^\\circ ",
        "≤": "\\le ",
        "≥": "\\ge ",
        "±": "\\pm ",
        "∪": "\\cup ",
        "∈": "\\in ",
        "²": "^2",
        "³": "^3",
        "“": '"',
        "”": '"',
        "’": "'",
        "…": "...",
    }
)
_LOOKALIKES = dict(
    zip(
        "АВЕКМНОРСТУХІЈЅавекмнорстухіјѕԁԛԝɡΑΒΕΖΗΙΚΜΝΟΡΤΥΧαοινυ",
        "ABEKMHOPCTYXIJSabekmhopctyxijsdqwgABEZHIKMNOPTYXaoivu",
        strict=True,
    )
)


def in_thought(text: str) -> bool:
    """Whether a text ends within a thought: the last ``<think>`` has no ``</think>`` behind it."""
    return "<think>" in text.rpartition("</think>")[2]


def without_thoughts(text: str) -> str:
    """The answer of a whole turn: what is said after the last ``</think>``; nothing, if a thought does not end.

    Example: ``without_thoughts("<think>5? 6?</think>It is 6.") == "It is 6."``
    """
    return "" if in_thought(text) else text.rpartition("</think>")[2]


def without_prompt(text: str, prompt: str) -> str:
    """The text without what it copies from the prompt: as a whole, and line by line and sentence by sentence.

    White space does not matter; lines and sentences of fewer than 12 characters are not looked at.
    """
    asked = spaced(prompt)
    if not asked:
        return text
    kept = [line for line in without_whole(text, prompt).split("\n") if not _copied(line, asked)]
    lines = (" ".join(each for each in re.split(r"(?<=[.?!]) +", line) if not _copied(each, asked)) for line in kept)
    return "\n".join(lines)


def without_whole(text: str, prompt: str) -> str:
    """The text without copies of all of the prompt; a prompt of fewer than 5 characters only if it is all that is said.

    White space does not matter.
    """
    said, asked = spaced(text), spaced(prompt)
    if said == asked:
        return ""
    if len(asked) < _SHORT or asked not in said:
        return text
    return re.sub(r"\s+".join(map(re.escape, asked.split())), "", text)


def _copied(piece: str, asked: str) -> bool:
    said = spaced(piece)
    return len(said) >= _LEAST and said in asked


def spaced(text: str) -> str:
    """Without white space at the ends, and with one space where there is some inside."""
    return " ".join(text.split())


def plain_mathematics(text: str) -> str:
    """Signs of mathematics outside ASCII, as LaTeX writes them."""
    return text.translate(_MATHEMATICAL)


def disguised(text: str, reference: str) -> bool:
    """Whether a text has characters that the reference has not, and that no keyboard's answer needs.

    Those outside ASCII, once signs of mathematics and currencies are taken off: look-alikes of letters and digits,
    marks without width, digits of other scripts.
    """
    left = set(plain_mathematics(text)) - set(plain_mathematics(reference)) - set("€£¥₹√")
    return any(ord(char) > 126 or (ord(char) < 32 and char not in "\t\n\r") for char in left)


def visible(text: str) -> str:
    """Without characters that have no width or only format (category Cf): they neither split words nor hide them."""
    return "".join(char for char in text if unicodedata.category(char) != "Cf")


def latin(text: str) -> str:
    """Cyrillic and Greek letters that look like Latin ones, as those; letters of full width as plain ones."""
    return unicodedata.normalize("NFKC", "".join(_LOOKALIKES.get(char, char) for char in text))
