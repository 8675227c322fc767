"""Format of prompts without a response, with a reference for graders."""

from __future__ import annotations

from collections.abc import Container, Mapping

from burnish.data.formats.fields import kind
from burnish.data.formats.messages import messages, system, tools
from burnish.data.formats.prompt_columns import prompt_of, untrained
from burnish.data.records import Task
from burnish.data.row import Row
from burnish.errors import DataError

REFERENCES = ("answer", "ground_truth", "reference_answer", "test_list")
"""Columns that are the reference where the row has no ``reference``."""
_NESTED = ("reward_model", "reward_spec")
"""Columns with an object whose ``ground_truth`` is the reference (verl, SkyRL)."""
_USED = ("prompt", "question", "reference", "extra", "system", "system_prompt")
_USED_BESIDE_MESSAGES = ("messages", "reference", "extra", "system", "system_prompt")
_OF_INSTRUCTION = ("instruction", "input", "history")


def task(row: Row) -> Task:
    """Columns prompt, question or instruction (history), reference (extra, or all others, for rewards; tools)."""
    if row.get("prompt") is None and row.get("question") is None:
        return Task(prompt_of(row), reference_of(row), _extra(row, (*_USED, *_OF_INSTRUCTION)), tools(row))
    # An input of another prompt than an instruction is that of its tests, say: rewards get it.
    others = {name: value for name, value in row.items() if name not in ("instruction", "input")}
    history = () if row.get("question") is None else ("history",)
    return Task(prompt_of(others), reference_of(row), _extra(row, (*_USED, *history)), tools(row))


def chat_task(row: Row) -> Task:
    """Columns messages, and a reference (extra, or all other columns, for rewards; tools, system).

    An answer at the end of the messages is no part of the prompt, and is the reference if no column is. Messages that
    end otherwise are the prompt.
    """
    *before, last = untrained(messages(row.get("messages"), "messages"))
    reference = reference_of(row)
    if last.role != "assistant":
        prompt = (*before, last)
    elif not before:
        raise DataError(
            given="the only message is the assistant's",
            rule="a prompt has a message that is answered",
            remedy="correct the role, or delete the row",
        )
    else:
        prompt, reference = tuple(before), last.text if reference is None else reference
    return Task(system(row, prompt), reference, _extra(row, _USED_BESIDE_MESSAGES), tools(row))


def reference_of(row: Row) -> object:
    """Returns the reference of a row: its column ``reference``, or the only other one that has one; None: there is
    none.

    Raises:
        DataError: two columns have different ones.
    """
    if row.get("reference") is not None:
        return row["reference"]
    found = {name: _single(row[name]) for name in REFERENCES if row.get(name) is not None}
    for column in _NESTED:
        value = row.get(column)
        if isinstance(value, Mapping) and value.get("ground_truth") is not None:
            found[f"{column}.ground_truth"] = _single(value["ground_truth"])
    if not found:
        return row.get("solution")
    (first, reference), *others = found.items()
    other = next((name for name, value in others if str(value).strip() != str(reference).strip()), None)
    if other is not None:
        raise DataError(
            given=f"{first} and {other} are both references, and differ",
            rule="a prompt has one reference",
            remedy=f"say which: columns={{reference: {first.partition('.')[0]}}}",
        )
    return reference


def _single(value: object) -> object:
    """The only text of a list of one (open-instruct); any other value is unchanged."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def _extra(row: Row, used: Container[str]) -> Mapping[str, object]:
    extra = row.get("extra")
    if extra is None:
        return {name: value for name, value in row.items() if name not in used and value is not None}
    if not isinstance(extra, dict):
        raise DataError(given=f"extra is {kind(extra)}", rule="extra is an object", remedy="correct the row")
    return extra
