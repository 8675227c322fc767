"""Instructions about words, letters and case: keywords, change_case, punctuation.

Each function takes the response and its instruction's arguments, by the names of the IFEval data. Words are whole
words; marks without width are taken off before (`check`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from burnish.tasks.normalize import latin

_COMMAS = frozenset(",，、،﹐﹑︐︑‚")
_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "at least": lambda found, number: found >= number,
    "at most": lambda found, number: found <= number,
    "less than": lambda found, number: found < number,
    "more than": lambda found, number: found > number,
    "exactly": lambda found, number: found == number,
}
RELATIONS = tuple(_RELATIONS)


def holds(found: int, relation: str, number: int) -> bool:
    """Whether a count is as an instruction wants it; `relation` is one of RELATIONS."""
    return _RELATIONS[relation](found, number)


def occurrences(word: str, text: str) -> int:
    """How often a word or phrase stands in a text, as a whole, whatever the case.

    In scripts that put no spaces between words, inside others too.
    """
    spaced = re.escape(word.strip()).replace(r"\ ", r"\s+")
    whole = rf"(?<!\w){spaced}(?!\w)" if word.isascii() else spaced
    return len(re.findall(whole, text, re.IGNORECASE))


def existence(text: str, keywords: Sequence[str]) -> bool:
    """keywords:existence: all of them occur."""
    return all(occurrences(each, text) > 0 for each in keywords)


def frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    """keywords:frequency: a word occurs so often."""
    return holds(occurrences(keyword, text), relation, frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """keywords:forbidden_words: none occurs, also not written with letters that look the same."""
    return not any(occurrences(each, text) or occurrences(each, latin(text)) for each in forbidden_words)


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """keywords:letter_frequency: a letter (or sign) occurs so often, in either case."""
    return holds(text.lower().count(letter.lower()), let_relation, let_frequency)


def capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> bool:
    """change_case:capital_word_frequency: so many words are all in capitals ("I" is one)."""
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text)
    return holds(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    """change_case:english_capital: Latin letters, all of them capitals."""
    return _letters_are_latin(text) and text.upper() == text


def english_lowercase(text: str) -> bool:
    """change_case:english_lowercase: Latin letters, none of them a capital."""
    return _letters_are_latin(text) and text.lower() == text


def no_comma(text: str) -> bool:
    """punctuation:no_comma: none, of any script."""
    return not _COMMAS & set(text)


def _letters_are_latin(text: str) -> bool:
    """Nine letters of ten are of A to Z: names may have accents."""
    letters = [char for char in text if char.isalpha()]
    return bool(letters) and sum(char.isascii() for char in letters) >= 0.9 * len(letters)
