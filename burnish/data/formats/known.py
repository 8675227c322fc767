"""Registry of all formats. `docs/data.md` shows a row of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from burnish.data.formats.answers import alpaca, chat, document, prompt_completion, question_answer
from burnish.data.formats.comparisons import chosen, labelled, preference, ranking
from burnish.data.formats.format import Dialect, Format
from burnish.data.formats.media import WithoutMedia
from burnish.data.formats.scores_and_steps import stepwise
from burnish.data.formats.tasks import task

_QUESTIONS = ("question", "problem>question", "query>question", "instruction>question")
_PROMPTS = ("prompt", *_QUESTIONS)
_SYSTEM = ("system", "system_prompt")
_TOOLS = ("tools", "functions")
_RATINGS = ("margin", "score_chosen", "score_rejected", "tags")


def _dialects(*written: str) -> tuple[Dialect, ...]:
    return tuple(map(Dialect.of, written))


def _combinations(*choices: tuple[str, ...]) -> tuple[Dialect, ...]:
    """Returns one dialect for every combination of names."""
    return _dialects(*(" ".join(names) for names in product(*choices)))


_CHAT = _dialects("messages", "conversations>messages", "conversation>messages")
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
_PREFERENCE = (*_combinations(_PROMPTS, ("chosen",), ("rejected",)), *_dialects("chosen rejected"))
_RANKING = _combinations(_PROMPTS, ("responses", "completions>responses"), ("scores", "ranks"))
_LABELLED = _combinations(_PROMPTS, ("completion", "response>completion"), ("label",))
_STEPWISE = _combinations(_PROMPTS, ("completions", "steps>completions"), ("labels",))
RESPONSES = _combinations(_PROMPTS, ("completion", "response>completion"))
"""Dialects of a prompt and its response."""
_TASK = (
    *_combinations(
        (*_PROMPTS, "text>question"),
        ("reference", "answer>reference", "ground_truth>reference", "test_list>reference"),
    ),
    *_dialects("prompt", "question", "problem>question"),
)

FORMATS: Mapping[str, Format] = {
    entry.name: replace(entry, convert=WithoutMedia(entry.convert))
    for entry in (
        Format("chat", _CHAT, chat, ("sft", "rl"), takes=(*_TOOLS, *_SYSTEM)),
        Format("alpaca", _ALPACA, alpaca, ("sft", "rl"), takes=("input", "history", *_SYSTEM)),
        Format("prompt_completion", _PROMPT_COMPLETION, prompt_completion, ("sft", "rl"), takes=_TOOLS),
        Format("question_answer", _QUESTION_ANSWER, question_answer, ("sft",), takes=_SYSTEM),
        Format("preference", _PREFERENCE, preference, ("prefer", "reward"), takes=(*_TOOLS, *_RATINGS, *_SYSTEM)),
        Format("ranking", _RANKING, ranking, ("prefer", "reward"), takes=(*_TOOLS, "tags", *_SYSTEM)),
        Format("labelled", _LABELLED, labelled, ("prefer", "reward"), takes=(*_TOOLS, "tags", *_SYSTEM)),
        Format("stepwise", _STEPWISE, stepwise, ("reward",), takes=(*_TOOLS, "tags", *_SYSTEM)),
        Format("task", _TASK, task, ("rl",), takes=("extra", *_SYSTEM), rank=1),
        Format("text", _dialects("text"), document, ("sft",), rank=2, documents=True),
        Format("chosen", _PREFERENCE, chosen, ("sft",), takes=(*_TOOLS, *_SYSTEM), named_only=True),
    )
}
