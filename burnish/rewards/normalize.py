"""Text normalization for verifiers: removes thoughts, copies of the prompt and invisible characters. Pure functions."""

from __future__ import annotations

import re
import unicodedata

_HEDGES = """or and not no isn't is isnt maybe perhaps possibly probably either neither if but unless approximately
about wrong incorrect false other"""
HEDGES = frozenset(_HEDGES.split())
"""Words that turn one answer into several, or into none."""

THOUGHT_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""Opening and closing tags of thoughts, as chat templates write them."""
_OPENED = re.compile("|".join(re.escape(opening) for opening, _ in THOUGHT_TAGS))

_MIN_COPY = 12
"""Characters from which a line or sentence counts as a copy of the prompt; shorter ones occur by chance."""
_MIN_PROMPT = 5
"""Characters from which copies of the prompt are removed inside a longer text."""
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
    """Whether a text ends within a thought: no closing tag follows the last opening one."""
    return _OPENED.search(_after_thoughts(text)) is not None


def without_thoughts(text: str) -> str:
    """Answer of a whole turn: the text after the last closing tag of a thought; empty if a thought is not closed.

    Example: ``without_thoughts("<think>5? 6?</think>It is 6.") == "It is 6."``
    """
    answer = _after_thoughts(text)
    return "" if _OPENED.search(answer) else answer


def _after_thoughts(text: str) -> str:
    end = max((text.rfind(closing) + len(closing) for _, closing in THOUGHT_TAGS if closing in text), default=0)
    return text[end:]


def without_prompt(text: str, prompt: str) -> str:
    """Text without copies of the prompt: of all of it, and of its lines and sentences.

    White space is ignored; lines and sentences of fewer than 12 characters stay.
    """
    source = spaced(prompt)
    if not source:
        return text
    lines = [line for line in without_whole(text, prompt).split("\n") if not _is_copied(line, source)]
    sentences = (re.split(r"(?<=[.?!]) +", line) for line in lines)
    return "\n".join(" ".join(part for part in parts if not _is_copied(part, source)) for parts in sentences)


def without_whole(text: str, prompt: str) -> str:
    """Text without copies of the whole prompt; a prompt of fewer than 5 characters only if it is the whole text.

    White space is ignored.
    """
    content, source = spaced(text), spaced(prompt)
    if content == source:
        return ""
    if len(source) < _MIN_PROMPT or source not in content:
        return text
    return re.sub(r"\s+".join(map(re.escape, source.split())), "", text)


def _is_copied(part: str, prompt: str) -> bool:
    content = spaced(part)
    return len(content) >= _MIN_COPY and content in prompt


def spaced(text: str) -> str:
    """Text without white space at the ends, and with single spaces inside."""
    return " ".join(text.split())


def plain_mathematics(text: str) -> str:
    """Text with mathematical characters outside ASCII replaced by LaTeX commands."""
    return text.translate(_MATHEMATICAL)


def disguised(text: str, reference: str) -> bool:
    """Whether a text has unusual characters that the reference has not.

    Unusual: outside ASCII and neither mathematical nor a currency, such as look-alikes of letters and digits,
    marks without width, digits of other scripts.
    """
    unusual = set(plain_mathematics(text)) - set(plain_mathematics(reference)) - set("€£¥₹√")
    return any(ord(char) > 126 or (ord(char) < 32 and char not in "\t\n\r") for char in unusual)


def visible(text: str) -> str:
    """Text without characters of category Cf, which have no width and would split or hide words."""
    return "".join(char for char in text if unicodedata.category(char) != "Cf")


def latin(text: str) -> str:
    """Text with Latin letters instead of Cyrillic and Greek look-alikes, and of full-width letters."""
    return unicodedata.normalize("NFKC", "".join(_LOOKALIKES.get(char, char) for char in text))
