"""Every kind of instruction: followed, not followed, and only seemingly followed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from burnish.grading.call import call
from burnish.rewards.instructions.check import KINDS
from burnish.rewards.instructions.reward import InstructionsReward
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Failure, FailureKind

Case = tuple[str, Mapping[str, object], str]
"""Kind, arguments, response."""

ENGLISH = "The weather is lovely today, and we are going to walk along the river until the evening comes."
HINDI = "आज मौसम बहुत अच्छा है और हम शाम तक नदी के किनारे टहलने जा रहे हैं।"
GERMAN = "Das Wetter ist heute sehr schön, und wir gehen bis zum Abend am Fluss spazieren."

FOLLOWED: dict[str, Case] = {
    "keywords": ("keywords:existence", {"keywords": ["river", "lovely day"]}, "A Lovely\nday by the river."),
    "keyword twice": (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 2, "relation": "at least"},
        "A cat and a Cat.",
    ),
    "keyword fewer": (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 2, "relation": "less than"},
        "A cat of one category.",
    ),
    "keyword, floats of a table": (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 2.0, "relation": "at least"},
        "cat cat",
    ),
    "forbidden": ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "One category of concatenation."),
    "letter": (
        "keywords:letter_frequency",
        {"letter": "q", "let_frequency": 3, "let_relation": "at least"},
        "Quick quiet queens.",
    ),
    "letter fewer": (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "less than"},
        "# One title",
    ),
    "Hindi": ("language:response_language", {"language": "hi"}, HINDI),
    "German": ("language:response_language", {"language": "de"}, GERMAN),
    "sentences": (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        "Mr. Smith came. Did he stay? He did!",
    ),
    "fewer sentences": (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "Dr. Jones of the U.S. paid 3.50 dollars.",
    ),
    "paragraphs": ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.\n***\n"),
    "words": ("length_constraints:number_words", {"num_words": 4, "relation": "at least"}, "one two - three four"),
    "first word": (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "president"},
        "One.\n\n**President** Lincoln.",
    ),
    "placeholders": (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        "Dear [name], I live at [address].",
    ),
    "postscript": ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hello.\n\nP.S. And bye."),
    "second postscript": ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Hello.\nP.P.S. Bye."),
    "bullets": ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "Two:\n* one\n* two **bold**"),
    "dashes": ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "- one\n- two\n---"),
    "options": ("detectable_format:constrained_response", {}, "My answer is maybe."),
    "highlights": (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 3},
        "*one* and **two** and *three words here*",
    ),
    "sections": (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\nHello.\n**SECTION 2**\nBye.",
    ),
    "JSON": ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```'),
    "title": ("detectable_format:title", {}, "<<The river>>\nIt flows."),
    "two responses": ("combination:two_responses", {}, "First.\n******\nSecond."),
    "repeated prompt": (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a haiku. About rain!"},
        "Write a haiku.  About rain!\nRain on the roof.",
    ),
    "end": ("startend:end_checker", {"end_phrase": "Is there more?"}, "That is all. Is there more?"),
    "end in another case": ("startend:end_checker", {"end_phrase": "Is there more?"}, "That is all. is there MORE?"),
    "quotation": ("startend:quotation", {}, ' "All of it." '),
    "capital words": (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NASA and ESA agree.",
    ),
    "few capital words": (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "NASA agrees.",
    ),
    "capitals": ("change_case:english_capital", {}, "ALL OF IT, 3 TIMES!"),
    "lower case": ("change_case:english_lowercase", {}, "all of it, 3 times at the café!"),
    "no comma": ("punctuation:no_comma", {}, "None at all; really."),
}

FOOLS: dict[str, Case] = {
    "nothing, without commas": ("punctuation:no_comma", {}, ""),
    "marks without width, without commas": ("punctuation:no_comma", {}, "\u200b\u200b"),
    "dots, in capitals": ("change_case:english_capital", {}, "... !!!"),
    "another script's comma": ("punctuation:no_comma", {}, "One， two"),
    "an Arabic comma": ("punctuation:no_comma", {}, "One، two"),
    "keyword inside a word": ("keywords:existence", {"keywords": ["cat"]}, "Concatenation."),
    "keyword with look-alikes": ("keywords:existence", {"keywords": ["cat"]}, "A c\u0430t."),
    "one of two keywords": ("keywords:existence", {"keywords": ["cat", "dog"]}, "A cat."),
    "keyword count by a longer word": (
        "keywords:frequency",
        {"keyword": "cat", "frequency": 2, "relation": "at least"},
        "A cat, and cats.",
    ),
    "forbidden, with look-alikes": ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A c\u0430t."),
    "forbidden, split by a mark without width": (
        "keywords:forbidden_words",
        {"forbidden_words": ["cat"]},
        "A c\u200bat.",
    ),
    "forbidden, in full width": ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A \uff43\uff41\uff54."),
    "forbidden, in capitals": ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A CAT."),
    "forbidden phrase over a line": ("keywords:forbidden_words", {"forbidden_words": ["black cat"]}, "A black\ncat."),
    "too few letters": (
        "keywords:letter_frequency",
        {"letter": "q", "let_frequency": 3, "let_relation": "at least"},
        "Quick quiet kings.",
    ),
    "a word of the language": ("language:response_language", {"language": "hi"}, f"नमस्ते! {ENGLISH}"),
    "numbers for a language": ("language:response_language", {"language": "hi"}, "123 456"),
    "dots for sentences": (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        "One. . . . ! ? ...",
    ),
    "abbreviations for sentences": (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        "Mr. and Mrs. and Dr. Smith came.",
    ),
    "no stops to have few sentences": (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "One\n\nTwo\n\nThree",
    ),
    "dashes for words": ("length_constraints:number_words", {"num_words": 4, "relation": "at least"}, "one - - - -"),
    "words split by marks without width": (
        "length_constraints:number_words",
        {"num_words": 4, "relation": "at least"},
        "o\u200bn\u200be\u200bs",
    ),
    "empty paragraphs": ("length_constraints:number_paragraphs", {"num_paragraphs": 3}, "One.\n***\n***\nThree."),
    "a paragraph too many": ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "One.\n***\nTwo."),
    "first word of a longer one": (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "president"},
        "One.\n\nPresidents lie.",
    ),
    "right word, wrong number of paragraphs": (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "president"},
        "President.\n\nTwo.\n\nThree.",
    ),
    "empty placeholders": ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[] [ ] [...]"),
    "one placeholder thrice": ("detectable_content:number_placeholders", {"num_placeholders": 3}, "[a] [a] [A]"),
    "links for placeholders": (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        "[a](http://x.y) [b](http://x.z)",
    ),
    "empty postscript": ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Hello.\nP.S."),
    "only a postscript": ("detectable_content:postscript", {"postscript_marker": "P.S."}, "P.S. Hello."),
    "postscript spoken of": ("detectable_content:postscript", {"postscript_marker": "P.S."}, "I add no P.S. here."),
    "empty bullets": ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n* ..."),
    "a bullet too many": ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b\n* c"),
    "rules for bullets": ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* * *\n- - -"),
    "all options": (
        "detectable_format:constrained_response",
        {},
        "My answer is yes. My answer is no. My answer is maybe.",
    ),
    "empty highlights": (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "**** ** ** *** * *",
    ),
    "one highlight twice": ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* **a**"),
    "bullets for highlights": (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 1},
        "* one\n* two",
    ),
    "empty sections": (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\nSection 2\n",
    ),
    "one section twice": (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\nHello.\nSection 1\nBye.",
    ),
    "sections spoken of": (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "There is a Section 1 and a Section 2 in it.",
    ),
    "a number for JSON": ("detectable_format:json_format", {}, "1"),
    "an empty object": ("detectable_format:json_format", {}, "{}"),
    "JSON with talk": ("detectable_format:json_format", {}, 'Here: {"a": 1}'),
    "an empty title": ("detectable_format:title", {}, "<<>> <<...>>"),
    "the same response twice": ("combination:two_responses", {}, "Yes it is.\n******\n yes  it is."),
    "an empty second response": ("combination:two_responses", {}, "Yes.\n******\n"),
    "three responses": ("combination:two_responses", {}, "a\n******\nb\n******\nc"),
    "only the prompt": ("combination:repeat_prompt", {"prompt_to_repeat": "Write a haiku."}, "Write a haiku."),
    "the prompt twice": (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a haiku."},
        "Write a haiku. Write a haiku.",
    ),
    "words before the prompt": (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Write a haiku."},
        "Sure! Write a haiku. Rain.",
    ),
    "only the end": ("startend:end_checker", {"end_phrase": "Is there more?"}, "Is there more?"),
    "words after the end": ("startend:end_checker", {"end_phrase": "Is there more?"}, "Is there more? No."),
    "only quotation marks": ("startend:quotation", {}, '""'),
    "dots in quotation marks": ("startend:quotation", {}, '"..."'),
    "curly quotation marks": ("startend:quotation", {}, "“All of it.”"),
    "only a part quoted": ("startend:quotation", {}, 'I said "all of it"'),
    "digits for capital words": (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "123 456 !!!",
    ),
    "one small letter": ("change_case:english_capital", {}, "ALL OF IT, 3 TIMEs!"),
    "another alphabet's capitals": ("change_case:english_capital", {}, "ВСЁ ЭТО"),
    "digits in lower case": ("change_case:english_lowercase", {}, "123"),
    "followed only in thoughts": ("keywords:existence", {"keywords": ["cat"]}, "<think>cat</think>A dog."),
}


def _row(case: Case) -> ResponseView:
    kind, arguments, text = case
    return ResponseView(
        "Write.", text, extra={"instruction_id_list": [kind], "kwargs": [{**arguments, "absent": None}]}
    )


@pytest.mark.parametrize("name", FOLLOWED)
def test_followed(name: str) -> None:
    assert InstructionsReward().score(_row(FOLLOWED[name])) == 1.0


@pytest.mark.parametrize("name", FOOLS)
def test_fool_is_not_paid(name: str) -> None:
    assert InstructionsReward().score(_row(FOOLS[name])) == 0.0


PROMPT = 'Write about rain with the words river and lovely, and end with "Any other questions?"'


@pytest.mark.parametrize("said", [PROMPT, f"  {PROMPT}\n\n{PROMPT}", f"{PROMPT.replace(' ', '  ')} ..."])
def test_the_prompt_follows_nothing_that_it_says(said: str) -> None:
    extra = {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": ["river", "lovely"]}]}
    assert InstructionsReward().score(ResponseView(PROMPT, said, extra=extra)) == 0.0
    assert InstructionsReward().score(ResponseView(PROMPT, "The river is lovely in the rain.", extra=extra)) == 1.0


def test_what_the_prompt_dictates_may_be_said() -> None:
    prompt = 'Is it true? Answer with "My answer is yes." or "My answer is no." or "My answer is maybe."'
    extra = {"instruction_id_list": ["detectable_format:constrained_response"]}
    assert InstructionsReward().score(ResponseView(prompt, "My answer is yes.", extra=extra)) == 1.0
    assert InstructionsReward().score(ResponseView(prompt, prompt, extra=extra)) == 0.0
    end = {"instruction_id_list": ["startend:end_checker"], "kwargs": [{"end_phrase": "Any other questions?"}]}
    assert InstructionsReward().score(ResponseView(PROMPT, "Rain falls. Any other questions?", extra=end)) == 1.0


def test_all_kinds_of_the_paper_are_followed_and_not_followed_here() -> None:
    assert len(KINDS) == 25
    assert {kind for kind, _, _ in FOLLOWED.values()} == set(KINDS)
    assert {kind for kind, _, _ in FOOLS.values()} == set(KINDS)


def test_several_instructions_are_all_or_a_share() -> None:
    extra = {"instruction_id_list": ["punctuation:no_comma", "detectable_format:title"], "kwargs": [{}, "{}"]}
    answer = ResponseView("Write.", "No title", extra=extra)
    assert InstructionsReward().score(answer) == 0.0
    assert InstructionsReward(score_by="share").score(answer) == 0.5


@pytest.mark.parametrize(
    ("case", "extra"),
    {
        "no column": {},
        "unknown kind": {"instruction_id_list": ["keywords:existance"], "kwargs": [{}]},
        "missing argument": {"instruction_id_list": ["keywords:existence"], "kwargs": [{}]},
        "argument too many": {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"relation": "at least"}]},
        "unknown relation": {
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{"num_words": 3, "relation": "around"}],
        },
        "text for a number": {
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{"num_words": "3", "relation": "at least"}],
        },
        "empty keyword": {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": [""]}]},
        "fewer arguments than kinds": {"instruction_id_list": ["punctuation:no_comma"] * 2, "kwargs": [{}]},
        "arguments that are no JSON": {"instruction_id_list": ["punctuation:no_comma"], "kwargs": ["{"]},
    }.items(),
)
def test_a_row_that_cannot_be_judged_is_a_failure(case: str, extra: Mapping[str, object]) -> None:
    [outcome] = call(InstructionsReward(), [ResponseView("Write.", "Hello", extra=extra)])
    assert isinstance(outcome, Failure), case
    assert outcome.kind == FailureKind.UNUSABLE_ROW, outcome
