"""Checks of instructions about the whole response: combination, startend, language. Signatures as in `words`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from burnish.errors import RecipeError
from burnish.rewards.instructions.shape import has_content
from burnish.rewards.normalize import spaced


def two_responses(text: str) -> bool:
    """combination:two_responses: two different responses, separated by ******."""
    parts = [part.strip() for part in re.split(r"(?<!\*)\*{6}(?!\*)", text)]
    while parts and not parts[-1]:
        parts.pop()
    return len(parts) == 2 and all(map(has_content, parts)) and spaced(parts[0]).lower() != spaced(parts[1]).lower()


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """combination:repeat_prompt: first the prompt word for word, then an answer."""
    content, prompt = spaced(text), spaced(prompt_to_repeat)
    return content.startswith(prompt) and has_content(content[len(prompt) :].replace(prompt, ""))


def end_checker(text: str, end_phrase: str) -> bool:
    """startend:end_checker: the phrase at the end, in any case, after something else."""
    content, phrase = spaced(text).lower().strip('"'), spaced(end_phrase).lower().strip('"')
    return content.endswith(phrase) and has_content(content.removesuffix(phrase))


def quotation(text: str) -> bool:
    """startend:quotation: the whole response is between straight double quotation marks."""
    content = text.strip()
    return len(content) > 2 and content[0] == content[-1] == '"' and has_content(content)


def response_language(text: str, language: str) -> bool:
    """language:response_language: the most likely language by langdetect; ISO 639-1 codes, such as "hi"."""
    library = detector()
    try:
        detected: str = library.detect(text)
    except library.LangDetectException:
        return False
    return detected == language or detected.partition("-")[0] == language


@lru_cache(maxsize=1)
def detector() -> Any:
    """The module langdetect, seeded so that it is deterministic.

    Raises:
        RecipeError: it is not installed.
    """
    try:
        import langdetect
    except ImportError as error:
        raise RecipeError(
            given="reward instructions: langdetect is not installed",
            rule="it detects the language of a response",
            remedy="pip install 'burnish[verify]'",
        ) from error
    langdetect.DetectorFactory.seed = 0
    return langdetect
