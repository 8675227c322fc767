"""Formats of comparisons: preferences, rankings, labelled responses, and the chosen response alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from burnish.data.formats.answers import with_something_to_learn
from burnish.data.formats.fields import kind, listed, number, truth
from burnish.data.formats.messages import messages, tools
from burnish.data.formats.prompt_columns import (
    is_transcript,
    nested_prompt,
    prompt_for,
    transcript,
    untrained,
    with_system_message,
)
from burnish.data.records import Completion, Conversation, Labelled, Message, Ranked, TextOrMessages
from burnish.data.row import Row
from burnish.errors import DataError

_LAST_WORD = re.compile(r"\s*\S*\Z")

FlawKind = Literal["identical", "tie", "prompts"]
"""identical: all responses are the same. tie: none is better. prompts: the responses follow different prompts."""


class ComparisonError(DataError):
    """Row whose comparison has a flaw. Without preference filters it is an unusable row like any other."""

    def __init__(self, kind: FlawKind, given: str, rule: str, remedy: str) -> None:
        super().__init__(given, rule, remedy)
        self.kind = kind


def preference(row: Row) -> Ranked:
    """Columns chosen and rejected (prompt, question or instruction, tools, system; margin, or score_chosen and
    score_rejected).

    Without a prompt column, the prompt is the common beginning of both.
    """
    if row.get("chosen") == row.get("rejected") and row.get("chosen") is not None:
        raise _identical_error()
    pair = replace(_read_pair(row), scores=_pair_scores(row))
    if pair.responses[0] == pair.responses[1]:
        raise _identical_error()
    return pair


def _identical_error() -> ComparisonError:
    return ComparisonError("identical", "chosen and rejected are the same", "the two answers differ", "delete the row")


def _pair_scores(row: Row) -> tuple[float, float]:
    """Scores of chosen and rejected: margin and 0, both scores, or 1 and 0 where the row lacks a score."""
    if row.get("margin") is not None:
        margin = number(row["margin"], "margin")
        if margin < 0:
            raise DataError(
                given=f"margin is {margin:g}",
                rule="margin is the score of chosen minus that of rejected: it is not negative",
                remedy="correct it, or swap chosen and rejected",
            )
        better, worse = margin, 0.0
    elif row.get("score_chosen") is not None and row.get("score_rejected") is not None:
        better = number(row.get("score_chosen"), "score_chosen")
        worse = number(row.get("score_rejected"), "score_rejected")
    else:
        return 1.0, 0.0
    if better < worse:
        raise DataError(
            given=f"score_chosen is {better:g} and score_rejected is {worse:g}",
            rule="chosen is the better answer",
            remedy="correct the scores, or swap chosen and rejected",
        )
    if better == worse:
        given = f"chosen and rejected both have the score {better:g}"
        raise ComparisonError("tie", given, "one answer is better than the other", "delete the row")
    return better, worse


def chosen(row: Row) -> Conversation | Completion:
    """The chosen response of a preference, as an example of fine-tuning."""
    pair = _read_pair(row)
    prompt, best = pair.prompt, pair.responses[0]
    if isinstance(prompt, str) and isinstance(best, str):
        return Completion(prompt, best)
    assert isinstance(prompt, tuple) and isinstance(best, tuple), "a prompt and its answers are of one kind"
    return with_something_to_learn(Conversation(prompt + best, pair.tools))


def _read_pair(row: Row) -> Ranked:
    row = nested_prompt(row)
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if all(row.get(column) is None for column in ("prompt", "question", "instruction")):
        prompt, responses = _split_prompt(chosen, rejected)
    else:
        prompt = prompt_for(row, chosen)
        responses = (response_to(chosen, prompt, "chosen"), response_to(rejected, prompt, "rejected"))
    prompt, responses = _without_repeated_prompt(prompt, responses)
    for response, column in zip(responses, ("chosen", "rejected"), strict=True):
        require_answer(response, column)
    return Ranked(with_system_message(row, prompt), responses, (1.0, 0.0), tools(row))


def ranking(row: Row) -> Ranked:
    """Columns prompt, question or instruction, responses, and scores (higher is better) or ranks (1 is best).

    Without scores and ranks, the responses are objects with a ``response`` and its ``overall_score`` (UltraFeedback).
    """
    values = listed(row.get("responses"), "responses")
    column, sign = ("ranks", -1) if row.get("scores") is None and row.get("ranks") is not None else ("scores", 1)
    if row.get("scores") is None and row.get("ranks") is None:
        scored = [_scored_response(value, f"responses[{index}]") for index, value in enumerate(values)]
        values, scores = [response for response, _ in scored], tuple(score for _, score in scored)
    else:
        given = listed(row.get(column), column)
        scores = tuple(sign * number(value, f"{column}[{i}]") for i, value in enumerate(given))
    prompt = prompt_for(row, next(iter(values), None))
    responses = tuple(response_to(entry, prompt, f"responses[{index}]") for index, entry in enumerate(values))
    for index, response in enumerate(responses):
        require_answer(response, f"responses[{index}]")
    if len(scores) != len(responses):
        raise DataError(
            given=f"{len(responses)} responses and {len(scores)} {column}",
            rule=f"every response has one of the {column}",
            remedy="correct the row",
        )
    if len(set(scores)) < 2:
        raise ComparisonError(
            "tie",
            f"all {len(responses)} responses have the same of the {column}" if scores else "responses is empty",
            "a comparison has at least two responses, and one is better than another",
            "delete the row",
        )
    return Ranked(with_system_message(row, prompt), responses, scores, tools(row))


def _scored_response(value: object, where: str) -> tuple[object, float]:
    """Response and score of one object of UltraFeedback."""
    if isinstance(value, dict) and value.get("response") is not None and value.get("overall_score") is not None:
        return value["response"], number(value["overall_score"], f"{where}.overall_score")
    keys = f" with the keys {', '.join(value)}" if isinstance(value, dict) else ""
    raise DataError(
        given=f"{where} is {kind(value)}{keys}, and the row has no scores and no ranks",
        rule="responses are compared by a column scores or ranks, or are objects with response and overall_score",
        remedy="add the scores: [...], one for each response",
    )


def labelled(row: Row) -> Labelled:
    """Columns prompt, question or instruction, completion, and label (true: a desirable response, false: an undesirable
    one).

    Or messages and label, which is that of the last message.
    """
    if row.get("completion") is None and row.get("messages") is not None:
        return _labelled_conversation(row)
    prompt = prompt_for(row, row.get("completion"))
    response = response_to(row.get("completion"), prompt, "completion")
    require_answer(response, "completion")
    return Labelled(with_system_message(row, prompt), response, truth(row.get("label"), "label"), tools(row))


def _labelled_conversation(row: Row) -> Labelled:
    chat_messages = messages(row.get("messages"), "messages")
    *before, last = chat_messages
    if not before or last.role != "assistant":
        raise DataError(
            given=f"the roles of the messages are {', '.join(message.role for message in chat_messages)}",
            rule="label is that of the last message, which is the assistant's and answers another",
            remedy="correct the roles, or delete the row",
        )
    prompt = with_system_message(row, untrained(tuple(before)))
    return Labelled(prompt, (last,), truth(row.get("label"), "label"), tools(row))


def require_answer(response: TextOrMessages, column: str) -> None:
    """Raises DataError for a response of messages that another role than the assistant begins."""
    if isinstance(response, tuple) and response[0].role != "assistant":
        raise DataError(
            given=f"{column} begins with a message of the role {response[0].role}",
            rule="an answer is the assistant's; if chosen and rejected are whole dialogues, both begin with the prompt",
            remedy="correct the role; of whole dialogues, leave the column of the prompt out",
        )


def response_to(value: object, prompt: TextOrMessages, column: str) -> TextOrMessages:
    """Reads a response as text or messages, like its prompt."""
    if isinstance(prompt, str):
        if isinstance(value, str):
            return value
    elif isinstance(value, str):
        return (Message("assistant", value, trained=True),)
    elif isinstance(value, list) or (isinstance(value, dict) and ("role" in value or "from" in value)):
        return messages(value, column)
    raise DataError(
        given=f"{column} is {kind(value)}, its prompt is {'text' if isinstance(prompt, str) else 'messages'}",
        rule="an answer is text, or messages if the prompt is messages",
        remedy=f"give the row a response in {column}" if value is None else "write both in the same way",
    )


def _split_prompt(chosen: object, rejected: object) -> tuple[TextOrMessages, tuple[TextOrMessages, ...]]:
    """Splits two whole dialogues into their common prompt and the two responses."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        if is_transcript(chosen) and is_transcript(rejected):
            return _split_messages(transcript(chosen, "chosen"), transcript(rejected, "rejected"))
        return _split_text(chosen, rejected)
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _split_messages(messages(chosen, "chosen"), messages(rejected, "rejected"))
    raise DataError(
        given=f"chosen is {kind(chosen)} and rejected is {kind(rejected)}",
        rule="both are text, or both are lists of messages",
        remedy="write both in the same way",
    )


def _split_messages(
    one: tuple[Message, ...], other: tuple[Message, ...]
) -> tuple[TextOrMessages, tuple[TextOrMessages, ...]]:
    """Splits messages at the first difference, or at the last answer if one list is the beginning of the other."""
    at = _common_prefix(one, other)
    while at and (at in (len(one), len(other)) or "assistant" not in (one[at].role, other[at].role)):
        at -= 1
    _require_common_prompt(at > 0 and one[at].role == other[at].role == "assistant")
    return untrained(one[:at]), (one[at:], other[at:])


def _split_text(one: str, other: str) -> tuple[TextOrMessages, tuple[TextOrMessages, ...]]:
    """Splits text after the last common whole word."""
    word = _LAST_WORD.search(one[: _common_prefix(one, other)])
    assert word is not None, "the pattern matches the empty string too"
    at = word.start()
    _require_common_prompt(bool(one[:at].strip()))
    return one[:at], (one[at:], other[at:])


def _common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """Length of the common prefix, in entries."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _require_common_prompt(has_prompt: bool) -> None:
    if not has_prompt:
        raise ComparisonError(
            "prompts",
            "chosen and rejected have no prompt in common that two answers follow",
            "without a column prompt, both begin with the same prompt",
            "add a column prompt, or delete the row",
        )


def _without_repeated_prompt(
    prompt: TextOrMessages, responses: tuple[TextOrMessages, ...]
) -> tuple[TextOrMessages, tuple[TextOrMessages, ...]]:
    """Removes the prompt from responses that all repeat it (as in UltraFeedback)."""
    if isinstance(prompt, str):
        return prompt, responses
    message_lists = [response for response in responses if isinstance(response, tuple)]
    user = (prompt[-1],)
    for opening in (prompt, user):
        if all(untrained(m[: len(opening)]) == opening and len(m) > len(opening) for m in message_lists):
            return prompt, tuple(m[len(opening) :] for m in message_lists)
    if len(message_lists) == 2 and all(untrained(m[:1]) == prompt[:1] for m in message_lists):
        return _split_messages(*message_lists)  # the prompt is one of two whole dialogues
    return prompt, responses
