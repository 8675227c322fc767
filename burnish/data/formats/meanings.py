"""Meanings of columns: which change what a row says, so that no format leaves them unread silently, and which look
like a column that a row lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_BETTER, _WORSE = "the better of two answers", "the worse of two answers"
_WANTED, _LEVEL = "whether an answer is wanted", "how good each answer is"
_PROMPT = "a part of the prompt"
_WEIGHT = "the weight of the row in the loss"

MEANINGS: Mapping[str, str] = {
    **dict.fromkeys(("chosen", "chosen_messages", "chosen_response", "preferred_output"), _BETTER),
    **dict.fromkeys(("rejected", "rejected_messages", "rejected_response", "non_preferred_output"), _WORSE),
    **dict.fromkeys(("label", "kto_tag"), _WANTED),
    **dict.fromkeys(("scores", "ranks"), _LEVEL),
    "labels": "which steps of an answer, or which tokens, are right",
    **dict.fromkeys(("system", "system_prompt", "input", "context", "history"), _PROMPT),
    **dict.fromkeys(("tools", "functions"), "the tools that the model may call"),
    "chat_template_kwargs": "variables of the chat template",
    **dict.fromkeys(("weight", "sample_weight", "loss_weight", "loss_mask"), _WEIGHT),
}
"""Column that changes what a row means → what it says. Any other column that a format does not read is harmless: the
report names it."""

OF_PROMPTS = ("system", "system_prompt", "context", "history", "tools", "functions", "chat_template_kwargs")
"""Those that change a prompt: rewards that get them do not make up for it. (Tests have an ``input``, too.)"""

LOOK_ALIKES: Mapping[str, tuple[str, ...]] = {
    "messages": ("dialogue", "dialog", "dialogs", "chat", "turns", "message", "history"),
    "question": ("prompt", "query", "problem", "instruction", "input", "inputs", "user", "task", "title"),
    "answer": (
        "solution",
        "response",
        "output",
        "completion",
        "assistant",
        "reply",
        "target",
        "targets",
        "expected_answer",
        "final_answer",
        "correct_answer",
        "gold",
        "label",
        "ground_truth",
        "reference",
        "reference_answer",
        "answers",
        "outputs",
    ),
    "chosen": ("accepted", "preferred", "better", "winner", "positive", "response_chosen", "chosen_answer"),
    "rejected": ("dispreferred", "worse", "loser", "negative", "response_rejected", "rejected_answer"),
    "text": ("content", "document", "body"),
}
"""Column → names of columns that hold the same in other data sets."""


def look_alike(name: str, columns: Iterable[str]) -> str | None:
    """Returns the column that looks like one of this name; None: there is none."""
    by_lower = {column.lower(): column for column in columns}
    names = (*LOOK_ALIKES["answer"], "answer") if name == "reference" else LOOK_ALIKES.get(name, ())
    return next((by_lower[other] for other in names if other in by_lower), None)
