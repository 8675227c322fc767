"""Checks one instruction of a row, by its name, on one response.

Names and arguments are those of the IFEval data (Zhou et al. 2023, arXiv 2311.07911, table 1); the checks in `words`,
`shape` and `whole` are our own and stricter (docs/rewards.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from burnish.rewards.instructions import shape, whole, words
from burnish.rewards.instructions.words import RELATIONS
from burnish.rewards.verdict import UnusableRow

Check = Callable[..., bool]
"""Response and arguments by name -> whether the response follows the instruction."""

KINDS: Mapping[str, Check] = MappingProxyType(
    {
        "keywords:existence": words.existence,
        "keywords:frequency": words.frequency,
        "keywords:forbidden_words": words.forbidden_words,
        "keywords:letter_frequency": words.letter_frequency,
        "language:response_language": whole.response_language,
        "length_constraints:number_sentences": shape.number_sentences,
        "length_constraints:number_paragraphs": shape.number_paragraphs,
        "length_constraints:number_words": shape.number_words,
        "length_constraints:nth_paragraph_first_word": shape.nth_paragraph_first_word,
        "detectable_content:number_placeholders": shape.number_placeholders,
        "detectable_content:postscript": shape.postscript,
        "detectable_format:number_bullet_lists": shape.number_bullet_lists,
        "detectable_format:constrained_response": shape.constrained_response,
        "detectable_format:number_highlighted_sections": shape.number_highlighted_sections,
        "detectable_format:multiple_sections": shape.multiple_sections,
        "detectable_format:json_format": shape.json_format,
        "detectable_format:title": shape.title,
        "combination:two_responses": whole.two_responses,
        "combination:repeat_prompt": whole.repeat_prompt,
        "startend:end_checker": whole.end_checker,
        "startend:quotation": whole.quotation,
        "change_case:capital_word_frequency": words.capital_word_frequency,
        "change_case:english_capital": words.english_capital,
        "change_case:english_lowercase": words.english_lowercase,
        "punctuation:no_comma": words.no_comma,
    }
)
"""Check of each of the 25 kinds."""
COPIES = frozenset({"combination:repeat_prompt", "detectable_format:constrained_response"})
"""Kinds that ask for text of the prompt, which alone may be a right answer."""

_TYPES: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {"int": int, "str": str, "Sequence[str]": (list, tuple)}
)


def follows(text: str, kind: str, arguments: Mapping[str, object]) -> bool:
    """Whether a response, without thoughts and marks without width, follows an instruction.

    An empty response follows no instruction.

    Example: ``follows("yes", "punctuation:no_comma", {})``.

    Raises:
        UnusableRow: the kind is unknown, or its arguments are wrong.
    """
    if kind not in KINDS:
        raise UnusableRow(f"there is no instruction {kind!r}")
    given = {name: _whole_number(value) for name, value in arguments.items() if value is not None}
    _check_arguments(kind, given)
    return shape.has_content(text) and KINDS[kind](text, **given)


def _whole_number(value: object) -> object:
    """Integer for a whole float, since tables with empty cells store integers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_arguments(kind: str, given: Mapping[str, object]) -> None:
    parameters = list(inspect.signature(KINDS[kind]).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    if set(given) != set(names):
        raise UnusableRow(
            f"{kind} takes {', '.join(names) or 'no arguments'}; the row has {', '.join(given) or 'none'}"
        )
    for parameter in parameters:
        value = given[parameter.name]
        if not isinstance(value, _TYPES[parameter.annotation]) or isinstance(value, bool):
            raise UnusableRow(f"{kind}: {parameter.name} is {value!r:.40}, not {parameter.annotation}")
        if isinstance(value, str | Sequence) and not all(isinstance(item, str) and item for item in value):
            raise UnusableRow(f"{kind}: {parameter.name} is {value!r:.40}, not text")
        if value == "" or value == []:
            raise UnusableRow(f"{kind}: {parameter.name} is empty")
        if parameter.name.endswith("relation") and value not in RELATIONS:
            raise UnusableRow(f"{kind}: {parameter.name} is {value!r:.40}, not one of {', '.join(RELATIONS)}")
