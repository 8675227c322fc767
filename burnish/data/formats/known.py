"""Registry of all formats. `docs/data.md` shows a row of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from burnish.data.formats.answers import alpaca, chat, document, prompt_completion, question_answer
from burnish.data.formats.comparisons import chosen, labelled, preference, ranking
from burnish.data.formats.format import Dialect, Format, Stage
from burnish.data.formats.media import WithMedia
from burnish.data.formats.scores_and_steps import stepwise
from burnish.data.formats.tasks import chat_task, task

_QUESTIONS = ("question", "problem>question", "query>question", "instruction")
_PROMPTS = ("prompt", *_QUESTIONS)
_MESSAGES = ("messages", "conversations>messages", "conversation>messages")
_MESSAGE_PROMPTS = ("messages>prompt", "conversations>prompt", "conversation>prompt")
_LABELS = ("label", "kto_tag>label")
_SYSTEM = ("system", "system_prompt")
_INPUT = ("input", "history")
_BOTH: tuple[Stage, ...] = ("prefer", "reward")
_TOOLS = ("tools", "functions")
_COMPARED = (*_TOOLS, "tags", *_SYSTEM)
_RATINGS = ("margin", "score_chosen", "score_rejected")


def _dialects(*written: str, rank: int = 0) -> tuple[Dialect, ...]:
    return tuple(Dialect.of(columns, rank) for columns in written)


def _combinations(*choices: tuple[str, ...], rank: int = 0) -> tuple[Dialect, ...]:
    """Returns one dialect for every combination of names."""
    return _dialects(*(" ".join(names) for names in product(*choices)), rank=rank)


_CHAT = _dialects(*_MESSAGES)
_ALPACA = _dialects(
    "instruction output",
    "instruction response>output",
    "instruction input output",
    "instruction input response>output",
    "instruction context>input response>output",
)
_PROMPT_COMPLETION = _dialects(
    "prompt completion",
    "prompt response>completion",
    "prompt output>completion",
    "prompt code>completion",
    "inputs>prompt targets>completion",
)
_QUESTION_ANSWER = _dialects(
    "question answer",
    "question response>answer",
    "query>question response>answer",
    "problem>question solution>answer",
    "text>question code>answer",
)
_PREFERENCE = (
    *_combinations(_PROMPTS, ("chosen",), ("rejected",)),
    *_dialects("chosen rejected", "chosen_messages>chosen rejected_messages>rejected"),
    *_combinations(_PROMPTS, ("chosen_response>chosen",), ("rejected_response>rejected",)),
    *_dialects("input>prompt preferred_output>chosen non_preferred_output>rejected"),
    # Beside a prompt, messages repeat the prompt and the chosen answer.
    *_combinations(_MESSAGE_PROMPTS, ("chosen",), ("rejected",), rank=1),
)
_RANKING = (
    *_combinations(_PROMPTS, ("responses", "completions>responses"), ("scores", "ranks")),
    *_dialects("instruction completions>responses"),
)
_LABELLED = (
    *_combinations(_PROMPTS, ("completion", "response>completion", "output>completion"), _LABELS),
    *_combinations(_QUESTIONS, ("answer>completion",), _LABELS),
    *_combinations(("instruction input output>completion",), _LABELS),
    *_combinations(_MESSAGES, _LABELS, rank=1),
)
_STEPWISE = _combinations(_PROMPTS, ("completions", "steps>completions"), ("labels",))
RESPONSES = _combinations(_PROMPTS, ("completion", "response>completion"))
"""Dialects of a prompt and its response."""
_TESTS = (
    "tests",
    "test entry_point",
    "input_output",
    "test_cases",
    "public_test_cases",
    "public_tests",
    "official_tests",
    "verification_info",
    "inputs outputs",
)
"""Columns with tests of programs, see `rewards.code.suites`; those of a row that has several are read there."""
_TESTED = (*_PROMPTS, "question_content>question")
_TASK = (
    *_combinations(
        (*_PROMPTS, "text>question"),
        ("reference", "answer>reference", "ground_truth>reference", "test_list>reference"),
    ),
    *_dialects(*_PROMPTS),
    # Where there is also an answer, the solution is the way to it.
    *_combinations(_PROMPTS, ("reference_answer",), rank=1),
    *_combinations(_PROMPTS, ("solution",), rank=2),
    # Programs are graded by tests, whatever else the row has. They stay columns, which rewards get.
    *_combinations(("description>question",), _TESTS, rank=len(_TESTS) + 3),
    *(found for rank, tests in enumerate(_TESTS, 3) for found in _combinations(_TESTED, (tests,), rank=rank)),
)

FORMATS: Mapping[str, Format] = {
    entry.name: replace(entry, convert=WithMedia(entry.convert))
    for entry in (
        Format("chat", _CHAT, chat, ("sft", "rl"), takes=(*_TOOLS, *_SYSTEM), convert_prompt=WithMedia(chat_task)),
        Format("alpaca", _ALPACA, alpaca, ("sft", "rl"), takes=(*_TOOLS, *_INPUT, *_SYSTEM)),
        Format("prompt_completion", _PROMPT_COMPLETION, prompt_completion, ("sft", "rl"), takes=(*_TOOLS, *_SYSTEM)),
        Format("question_answer", _QUESTION_ANSWER, question_answer, ("sft",), takes=(*_TOOLS, *_SYSTEM)),
        Format("preference", _PREFERENCE, preference, _BOTH, (*_COMPARED, *_RATINGS), _INPUT),
        Format("ranking", _RANKING, ranking, _BOTH, _COMPARED, _INPUT),
        Format("labelled", _LABELLED, labelled, _BOTH, _COMPARED, _INPUT),
        Format("stepwise", _STEPWISE, stepwise, ("reward",), _COMPARED, _INPUT),
        Format("task", _TASK, task, ("rl",), ("extra", *_TOOLS, *_SYSTEM), ("history",), rank=1, keeps_columns=True),
        Format("text", _dialects("text"), document, ("sft",), rank=2, documents=True),
        Format("chosen", _PREFERENCE, chosen, ("sft",), (*_TOOLS, *_SYSTEM), _INPUT, named_only=True),
    )
}
