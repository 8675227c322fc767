"""Checks of instructions about words, letters and case: keywords, change_case, punctuation.

Each function takes the response and the arguments of its instruction, by the names of the IFEval data. Words are whole
words; marks without width are removed before (`reward`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from burnish.rewards.normalize import latin

_COMMAS = frozenset(",，、،﹐﹑︐︑‚")
_RELATIONS: dict[str, Callable[[int, int], bool]] = {
    "at least": lambda count, number: count >= number,
    "at most": lambda count, number: count <= number,
    "less than": lambda count, number: count < number,
    "more than": lambda count, number: count > number,
    "exactly": lambda count, number: count == number,
}
RELATIONS = tuple(_RELATIONS)


def holds(count: int, relation: str, number: int) -> bool:
    """Whether a count satisfies a relation; `relation` is one of RELATIONS."""
    return _RELATIONS[relation](count, number)


def occurrences(word: str, text: str) -> int:
    """Number of occurrences of a word or phrase in a text, as whole words, ignoring case.

    In scripts without spaces between words, occurrences inside other words count too.
    """
    spaced = re.escape(word.strip()).replace(r"\ ", r"\s+")
    whole = rf"(?<!\w){spaced}(?!\w)" if word.isascii() else spaced
    return len(re.findall(whole, text, re.IGNORECASE))


def existence(text: str, keywords: Sequence[str]) -> bool:
    """keywords:existence: all keywords occur."""
    return all(occurrences(keyword, text) > 0 for keyword in keywords)


def frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    """keywords:frequency: the number of occurrences of a keyword."""
    return holds(occurrences(keyword, text), relation, frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """keywords:forbidden_words: no word occurs, nor a look-alike of it."""
    return not any(occurrences(word, text) or occurrences(word, latin(text)) for word in forbidden_words)


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """keywords:letter_frequency: the number of occurrences of a letter (or sign), in either case."""
    return holds(text.lower().count(letter.lower()), let_relation, let_frequency)


def capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> bool:
    """change_case:capital_word_frequency: the number of words in capitals ("I" is one)."""
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text)
    return holds(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    """change_case:english_capital: Latin letters, all of them capitals."""
    return _letters_are_latin(text) and text.upper() == text


def english_lowercase(text: str) -> bool:
    """change_case:english_lowercase: Latin letters, no capitals."""
    return _letters_are_latin(text) and text.lower() == text


def no_comma(text: str) -> bool:
    """punctuation:no_comma: no comma of any script."""
    return not _COMMAS & set(text)


def _letters_are_latin(text: str) -> bool:
    """Whether nine of ten letters are A to Z, since names may have accents."""
    letters = [char for char in text if char.isalpha()]
    return bool(letters) and sum(char.isascii() for char in letters) >= 0.9 * len(letters)
