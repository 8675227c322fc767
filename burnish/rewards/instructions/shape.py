"""Checks of instructions about parts of a response: length_constraints, detectable_content, detectable_format.

Signatures as in `words`. A counted part must have a letter or digit: empty bullets, empty highlights and dots do not
count.
"""

from __future__ import annotations

import re

from burnish.rewards.instructions.words import holds
from burnish.rewards.structure import parsed

_ABBREVIATIONS = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|U\.S|U\.K|No|Inc|Ltd|Co|[A-Z])\.(?=\s)", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?。！？।]+[\"'”’)\]]*(?:\s+|$)|(?<=[。！？])|\n\s*\n")
_BULLET = re.compile(r"^[ \t]*(?:\*(?!\*)|-(?!-))[ \t]+(.*)$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*\*([^\n*]+)\*\*|(?<!\*)\*([^\n*]+)\*(?!\*)")
_PLACEHOLDER = re.compile(r"\[([^\[\]\n]+)\](?!\()")
_TITLE = re.compile(r"<<([^<>\n]+)>>")
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def has_content(text: str) -> bool:
    """Whether a text has a letter or a digit."""
    return any(map(str.isalnum, text))


def number_sentences(text: str, num_sentences: int, relation: str) -> bool:
    """length_constraints:number_sentences. A sentence has a letter or digit, and ends with . ! ? or a blank line."""
    once = re.sub(r"([.!?])[.!?]+", r"\1", text)
    unabbreviated = _ABBREVIATIONS.sub(lambda match: match[0].replace(".", ""), once)
    return holds(sum(map(has_content, _SENTENCE_END.split(unabbreviated))), relation, num_sentences)


def number_words(text: str, num_words: int, relation: str) -> bool:
    """length_constraints:number_words. A word is between spaces and has a letter or digit."""
    return holds(sum(map(has_content, text.split())), relation, num_words)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """length_constraints:number_paragraphs: exactly this number, separated by ***."""
    paragraphs = _without_empty_ends(re.split(r"(?<!\*)\*\*\*(?!\*)", text))
    return len(paragraphs) == num_paragraphs and all(map(has_content, paragraphs))


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """length_constraints:nth_paragraph_first_word: so many, between blank lines; the nth begins with a word."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text.strip())]
    if len(paragraphs) != num_paragraphs or not all(map(has_content, paragraphs)) or nth_paragraph > num_paragraphs:
        return False
    word = re.match(r"[\W_]*([\w'’-]+)", paragraphs[nth_paragraph - 1])
    return word is not None and word[1].lower() == first_word.lower()


def postscript(text: str, postscript_marker: str) -> bool:
    """detectable_content:postscript: the last paragraph with the marker has content and follows text."""
    loose = r"\s*".join(map(re.escape, postscript_marker.replace(" ", "")))
    marks = list(re.finditer(rf"^[ \t*_]*{loose}(.*)", text, re.MULTILINE | re.DOTALL | re.IGNORECASE))
    return bool(marks) and has_content(marks[-1][1]) and has_content(text[: marks[-1].start()])


def number_placeholders(text: str, num_placeholders: int) -> bool:
    """detectable_content:number_placeholders: at least this number of distinct ones, such as [address]."""
    return len({name.strip().lower() for name in _PLACEHOLDER.findall(text) if has_content(name)}) >= num_placeholders


def number_bullet_lists(text: str, num_bullets: int) -> bool:
    """detectable_format:number_bullet_lists: exactly this number of bullets, each with text."""
    points = _BULLET.findall(text)
    return len(points) == num_bullets and all(map(has_content, points))


def number_highlighted_sections(text: str, num_highlights: int) -> bool:
    """detectable_format:number_highlighted_sections: at least this number of distinct ones, *like this* or **this**."""
    marked = {(strong or weak).strip().lower() for strong, weak in _HIGHLIGHT.findall(text)}
    return sum(map(has_content, marked)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """detectable_format:multiple_sections: at least this number, each with its own number and with text."""
    head = rf"^(?:[^\w\n]|_)*{re.escape(section_spliter.strip())}\s*(\d+|[IVXLC]+|[A-Z])\b[^\S\n]*[:.)*\]-]*(.*)$"
    heads = list(re.finditer(head, text, re.MULTILINE))
    if not heads:
        return False
    ends = [*(match.start() for match in heads[1:]), len(text)]
    numbers = {match[1] for match, end in zip(heads, ends, strict=True) if has_content(text[match.end(1) : end])}
    return len(numbers) >= num_sections


def constrained_response(text: str) -> bool:
    """detectable_format:constrained_response: exactly one of the three answers."""
    return sum(option in text for option in _OPTIONS) == 1


def json_format(text: str) -> bool:
    """detectable_format:json_format: the response is an object or list, not empty; backticks around it are allowed."""
    try:
        value = parsed(text)
    except ValueError:
        return False
    return isinstance(value, dict | list) and bool(value)


def title(text: str) -> bool:
    """detectable_format:title: a title <<in double angular brackets>>."""
    return any(map(has_content, _TITLE.findall(text)))


def _without_empty_ends(parts: list[str]) -> list[str]:
    start = 1 if parts and not parts[0].strip() else 0
    end = -1 if len(parts) > 1 and not parts[-1].strip() else None
    return parts[start:end]
