"""Instructions about parts of a response: length_constraints, detectable_content, detectable_format.

As in `words`. What is counted must say something: a bullet without text, an empty highlight, dots are nothing.
"""

from __future__ import annotations

import re

from burnish.tasks.instructions.words import holds
from burnish.tasks.structure import parsed

_ABBREVIATIONS = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|U\.S|U\.K|No|Inc|Ltd|Co|[A-Z])\.(?=\s)", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?。！？।]+[\"'”’)\]]*(?:\s+|$)|(?<=[。！？])|\n\s*\n")
_BULLET = re.compile(r"^[ \t]*(?:\*(?!\*)|-(?!-))[ \t]+(.*)$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*\*([^\n*]+)\*\*|(?<!\*)\*([^\n*]+)\*(?!\*)")
_PLACEHOLDER = re.compile(r"\[([^\[\]\n]+)\](?!\()")
_TITLE = re.compile(r"<<([^<>\n]+)>>")
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def says(text: str) -> bool:
    """Whether there is a letter or a digit in it."""
    return any(map(str.isalnum, text))


def number_sentences(text: str, num_sentences: int, relation: str) -> bool:
    """length_constraints:number_sentences. A sentence says something and ends with . ! or ?, or with a blank line."""
    once = re.sub(r"([.!?])[.!?]+", r"\1", text)
    unabbreviated = _ABBREVIATIONS.sub(lambda found: found[0].replace(".", ""), once)
    return holds(sum(map(says, _SENTENCE_END.split(unabbreviated))), relation, num_sentences)


def number_words(text: str, num_words: int, relation: str) -> bool:
    """length_constraints:number_words. A word is between spaces and has a letter or digit."""
    return holds(sum(map(says, text.split())), relation, num_words)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """length_constraints:number_paragraphs: so many, with the divider *** between them."""
    paragraphs = _without_empty_ends(re.split(r"(?<!\*)\*\*\*(?!\*)", text))
    return len(paragraphs) == num_paragraphs and all(map(says, paragraphs))


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """length_constraints:nth_paragraph_first_word: so many, blank lines between; one of them begins with a word."""
    paragraphs = [each.strip() for each in re.split(r"\n\s*\n", text.strip())]
    if len(paragraphs) != num_paragraphs or not all(map(says, paragraphs)) or nth_paragraph > num_paragraphs:
        return False
    word = re.match(r"[\W_]*([\w'’-]+)", paragraphs[nth_paragraph - 1])
    return word is not None and word[1].lower() == first_word.lower()


def postscript(text: str, postscript_marker: str) -> bool:
    """detectable_content:postscript: the last paragraph that begins with the marker says something, after a text."""
    loose = r"\s*".join(map(re.escape, postscript_marker.replace(" ", "")))
    found = list(re.finditer(rf"^[ \t*_]*{loose}(.*)", text, re.MULTILINE | re.DOTALL | re.IGNORECASE))
    return bool(found) and says(found[-1][1]) and says(text[: found[-1].start()])


def number_placeholders(text: str, num_placeholders: int) -> bool:
    """detectable_content:number_placeholders: at least so many different ones, such as [address]."""
    return len({found.strip().lower() for found in _PLACEHOLDER.findall(text) if says(found)}) >= num_placeholders


def number_bullet_lists(text: str, num_bullets: int) -> bool:
    """detectable_format:number_bullet_lists: exactly so many points, each with text."""
    points = _BULLET.findall(text)
    return len(points) == num_bullets and all(map(says, points))


def number_highlighted_sections(text: str, num_highlights: int) -> bool:
    """detectable_format:number_highlighted_sections: at least so many different ones, *such as this* or **this**."""
    marked = {(strong or weak).strip().lower() for strong, weak in _HIGHLIGHT.findall(text)}
    return sum(map(says, marked)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """detectable_format:multiple_sections: at least so many, each with its own number and with text."""
    head = rf"^(?:[^\w\n]|_)*{re.escape(section_spliter.strip())}\s*(\d+|[IVXLC]+|[A-Z])\b[^\S\n]*[:.)*\]-]*(.*)$"
    found = list(re.finditer(head, text, re.MULTILINE))
    if not found:
        return False
    ends = [*(each.start() for each in found[1:]), len(text)]
    told = {each[1] for each, end in zip(found, ends, strict=True) if says(text[each.end(1) : end])}
    return len(told) >= num_sections


def constrained_response(text: str) -> bool:
    """detectable_format:constrained_response: one of the three answers, and no other of them."""
    return sum(each in text for each in _OPTIONS) == 1


def json_format(text: str) -> bool:
    """detectable_format:json_format: all of it is one object or list, not empty; backticks around it are allowed."""
    try:
        value = parsed(text)
    except ValueError:
        return False
    return isinstance(value, dict | list) and bool(value)


def title(text: str) -> bool:
    """detectable_format:title: a title <<in double angular brackets>>."""
    return any(map(says, _TITLE.findall(text)))


def _without_empty_ends(parts: list[str]) -> list[str]:
    start = 1 if parts and not parts[0].strip() else 0
    end = -1 if len(parts) > 1 and not parts[-1].strip() else None
    return parts[start:end]
