"""Instructions about the response as a whole: combination, startend, language. As in `words`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from burnish.errors import RecipeError
from burnish.tasks.instructions.shape import says
from burnish.tasks.normalize import spaced


def two_responses(text: str) -> bool:
    """combination:two_responses: two different ones, with ****** between them."""
    parts = [part.strip() for part in re.split(r"(?<!\*)\*{6}(?!\*)", text)]
    while parts and not parts[-1]:
        parts.pop()
    return len(parts) == 2 and all(map(says, parts)) and spaced(parts[0]).lower() != spaced(parts[1]).lower()


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """combination:repeat_prompt: the request first, word for word, and then an answer."""
    said, asked = spaced(text), spaced(prompt_to_repeat)
    return said.startswith(asked) and says(said[len(asked) :].replace(asked, ""))


def end_checker(text: str, end_phrase: str) -> bool:
    """startend:end_checker: the exact phrase at the end, after something else."""
    said, phrase = spaced(text).rstrip('"'), spaced(end_phrase).strip('"')
    return said.endswith(phrase) and says(said.removesuffix(phrase))


def quotation(text: str) -> bool:
    """startend:quotation: all of it between double quotation marks."""
    said = text.strip()
    return len(said) > 2 and (said[0], said[-1]) in {('"', '"'), ("“", "”")} and says(said)


def response_language(text: str, language: str) -> bool:
    """language:response_language: most of it is in a language, by langdetect; ISO 639-1 codes, as "hi"."""
    library = detector()
    try:
        found: str = library.detect(text)
    except library.LangDetectException:
        return False
    return found == language or found.partition("-")[0] == language


@lru_cache(maxsize=1)
def detector() -> Any:
    """langdetect, made to give the same answer every time.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        import langdetect
    except ImportError as error:
        raise RecipeError(
            given="reward instructions: langdetect is not installed",
            rule="it tells the language of a response",
            remedy="pip install 'burnish[verify]'",
        ) from error
    langdetect.DetectorFactory.seed = 0
    return langdetect
