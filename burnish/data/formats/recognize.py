"""Recognition of the format of a data set: by its columns, by a name, or by a user's function.

Columns that fit two formats, and rows of another stage, are an error whose remedy names the choices. The format is
never guessed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial

from burnish.config.user_code import is_user_code
from burnish.data.formats.format import Dialect, Format, Stage
from burnish.data.formats.known import FORMATS, RESPONSES
from burnish.data.formats.meanings import MEANINGS, OF_PROMPTS, look_alike
from burnish.data.formats.scores_and_steps import scored
from burnish.data.formats.user_format import user_format
from burnish.errors import DataError
from burnish.similar import similar

READY = "burnish:example"
"""Column of rows that are already examples (of mixtures, whose sources have their own formats)."""


def _ready(row: Mapping[str, object]) -> object:
    return row[READY]


_READY = Format("ready", (Dialect.of(READY),), _ready, ("sft", "prefer", "reward", "rl"))  # type: ignore[arg-type]


def recognize(
    columns: Sequence[str], name: str | None = None, *, stage: Stage | None = "sft", given: Container[str] = ()
) -> Format:
    """Returns the format called ``name``, or the only one that fits the columns.

    Args:
        columns: columns of the rows.
        name: name in `FORMATS`, or ``file.py:function``; None: recognized by the columns.
        stage: stage that uses the rows; None: any, with formats of responses before tasks.
        given: canonical names that the user maps to a column.

    Example: ``recognize(("question", "answer")).name == "question_answer"``.
    """
    if tuple(columns) == (READY,):
        return _READY
    if name is not None and is_user_code(name):
        return user_format(name, partial(recognize, stage=stage))
    if name is not None:
        return _named(columns, name, stage, given)
    fitting = _fitting(columns, given)
    if not fitting:
        raise _unknown(columns)
    of_stage = [entry for entry in fitting if stage is None or stage in entry.stages]
    # The first stage of a format is its main one: in rl a prompt with a reference is a task, also as messages.
    of_stage = [entry for entry in of_stage if entry.stages[0] == stage] or of_stage
    of_stage = _messages_before_texts(of_stage, fitting, columns, given)
    best = [entry for entry in of_stage if entry.rank == min(other.rank for other in of_stage)]
    if not best:
        raise _of_another_stage(columns, fitting[0], str(stage))
    if len(best) > 1:
        raise DataError(
            given=f"the columns {', '.join(columns)} fit several formats: {', '.join(entry.name for entry in best)}",
            rule="the format is never guessed",
            remedy=f"name one: format={best[0].name}",
        )
    found = _for_only_dialect(best[0].for_stage(stage), columns, given)
    _require_meanings_read(found, columns)
    return found


def _messages_before_texts(
    of_stage: list[Format], fitting: Sequence[Format], columns: Sequence[str], given: Container[str]
) -> list[Format]:
    """Messages beside a prompt alone, without a reference, repeat it with its answer, and are the chat."""
    chat, task = FORMATS["chat"], FORMATS["task"]
    if chat not in fitting or task not in of_stage:
        return of_stage
    if any(len(dialect.columns) > 1 for dialect in task.present(columns, given)):
        return of_stage
    return [chat, *(entry for entry in of_stage if entry not in (chat, task))]


def recognize_scores(columns: Sequence[str], scores: Sequence[str], given: Container[str] = ()) -> Format:
    """Returns the format of responses with these scores, see `scores_and_steps.scored`."""
    return scored(scores, columns, RESPONSES, given)


def _fitting(columns: Sequence[str], given: Container[str]) -> list[Format]:
    """Returns the formats that fit the columns, without formats whose columns are a subset of those of another."""
    dialects_by_name = {entry.name: entry.present(columns, given) for entry in FORMATS.values() if not entry.named_only}
    sets = [set(dialect.columns) for dialects in dialects_by_name.values() for dialect in dialects]
    return [
        FORMATS[name]
        for name, dialects in dialects_by_name.items()
        if any(not any(set(dialect.columns) < other for other in sets) for dialect in dialects)
    ]


def _for_only_dialect(entry: Format, columns: Sequence[str], given: Container[str]) -> Format:
    dialects = entry.fitting(columns, given)
    if len(dialects) > 1:
        (first, second), *_ = (
            pair for pair in zip(dialects[0].names, dialects[1].names, strict=False) if pair[0] != pair[1]
        )
        raise DataError(
            given=f"the columns {', '.join(columns)} fit the format {entry.name} twice: {dialects[0]}; {dialects[1]}",
            rule="the format is never guessed",
            remedy=f"say which: columns={{{first[1]}: {first[0]}}} or columns={{{second[1]}: {second[0]}}}",
        )
    return entry.for_dialect(dialects[0])


def _named(columns: Sequence[str], name: str, stage: Stage | None, given: Container[str]) -> Format:
    check_name(name)
    chosen = FORMATS[name]
    if not chosen.fitting(columns, given):
        raise DataError(
            given=f"format {name} was named, but the columns are {', '.join(columns)}",
            rule=f"it needs the columns {chosen}",
            remedy=_near_columns(columns, [chosen]) or "rename them (columns: {...}), or leave format out",
        )
    if stage is not None and stage not in chosen.stages:
        raise _of_another_stage(columns, chosen, stage)
    return _for_only_dialect(chosen.for_stage(stage), columns, given)


def _require_meanings_read(found: Format, columns: Sequence[str]) -> None:
    """Raises DataError if a format that was not named leaves a column unread that changes what a row means."""
    meanings = OF_PROMPTS if found.keeps_columns else () if found.documents else tuple(MEANINGS)
    column = next((column for column in found.unread(columns) if column in meanings), None)
    if column is None:
        return
    leave = f"give {column} to rewards alone" if found.keeps_columns else f"leave {column} unread"
    readers = [
        f"{entry.name} ({', '.join(entry.stages)})"
        for entry in FORMATS.values()
        if entry.name != found.name and not entry.named_only and column in _names(entry)
    ]
    raise DataError(
        given=f"the columns {', '.join(columns)} are of the format {found.name}, which does not read {column}: "
        f"{MEANINGS[column]}",
        rule="a column that changes what a row means is never left unread silently"
        + (f"; formats that read {column}, and their stages: {', '.join(readers)}" if readers else ""),
        remedy=f"{_as_input(found, column, columns)}name format={found.name} to {leave}"
        + ("" if readers else ", or remove it"),
    )


def _as_input(found: Format, column: str, columns: Sequence[str]) -> str:
    """Beginning of the remedy for a column that is not read: that the format takes it as `input`, or another one."""
    takes = "input" not in found.unread([*columns, "input"]) or (found.name == "task" and "instruction" in columns)
    if column == "context" and "input" not in columns and takes:
        return "to write it after the question, columns={input: context}; or "
    readers = any(column in _names(entry) for entry in FORMATS.values() if entry.name != found.name)
    return "give the columns that one of them needs, or " if readers else ""


def check_name(name: str) -> None:
    """Raises DataError for a name that no format has. (The name of a user's function is not checked.)"""
    if name in FORMATS or is_user_code(name):
        return
    near = similar(name, FORMATS)
    raise DataError(
        given=f"format {name!r} is unknown",
        rule=f"formats: {', '.join(FORMATS)}; or a function of your own: file.py:function",
        remedy=f"did you mean {near[0]}?" if near else "name one of them, or leave format out",
    )


def check_mapping(names: Mapping[str, str], columns: Sequence[str]) -> None:
    """Raises DataError if a mapping (canonical name -> column) has a name that no format reads, or an absent column."""
    known_names = sorted({name for entry in FORMATS.values() for name in _names(entry)})
    twice = [column for column in names.values() if list(names.values()).count(column) > 1]
    if twice:
        raise DataError(
            given=f"columns names {twice[0]} twice",
            rule="a column has one meaning",
            remedy="give the other name a column of its own",
        )
    for name, column in names.items():
        if name not in known_names:
            near = similar(name, known_names)
            raise DataError(
                given=f"columns: {{{name}: {column}}}",
                rule=f"columns gives our names their columns: {', '.join(known_names)}",
                remedy=f"did you mean {near[0]}?" if near else "correct the name",
            )
        if column not in columns:
            near = similar(column, columns)
            raise DataError(
                given=f"columns: {{{name}: {column}}}, but the columns are {', '.join(columns)}",
                rule="a column that is named is there",
                remedy=f"did you mean {near[0]}?" if near else "correct the name",
            )


def _names(entry: Format) -> Iterable[str]:
    """Yields every column name that a format reads."""
    yield from (*entry.takes, *entry.takes_with_question)
    for dialect in entry.dialects:
        for pair in dialect.names:
            yield from pair


def _unknown(columns: Sequence[str]) -> DataError:
    formats = "; ".join(f"{entry.name} ({entry.dialects[0]})" for entry in FORMATS.values() if not entry.named_only)
    return DataError(
        given=f"the columns {', '.join(columns)} fit no known format",
        rule=f"formats and the columns they need: {formats}",
        remedy=_look_alikes(columns)
        or _near_columns(columns, FORMATS.values())
        or "say what they are: columns.question=... columns.answer=...",
    )


def _look_alikes(columns: Sequence[str]) -> str:
    """Suggestion for columns that hold what a format needs under other names; "" if there are none."""
    for wanted in (("question", "answer"), ("question", "chosen", "rejected"), ("messages",)):
        alike = {name: name if name in columns else look_alike(name, columns) for name in wanted}
        others = [f"no column {name}; {column} looks like it" for name, column in alike.items() if column != name]
        if others and all(alike.values()) and len(set(alike.values())) == len(alike):
            mapping = ", ".join(f"{name}: {column}" for name, column in alike.items() if column != name)
            return f"{', '.join(others)}: columns={{{mapping}}}"
    return ""


def _of_another_stage(columns: Sequence[str], entry: Format, stage: str) -> DataError:
    first, *_ = entry.fitting(columns)
    remedy = "name another format, or other data"
    plain = [other.name for other in FORMATS.values() if stage == other.stages[0] and other.fitting(columns)]
    learned = next((name for name in plain if name not in ("chosen", "text")), None)
    if entry.name == "task":
        remedy = (
            _answer_look_alike(columns, first) or _near_columns(columns, FORMATS.values()) or _learn_reference(first)
        )
    elif stage == "sft" and entry.name == "preference":
        remedy = "name format=chosen to learn the chosen answers"
        remedy += f", or format={learned} to leave them unread" if learned else ""
    elif stage == "sft" and entry.name == "labelled":
        remedy = f"name format={learned} to learn all answers, the unwanted ones too" if learned else remedy
    elif stage == "rl" and entry.name == "labelled":
        remedy = "if the label is what responses are compared with: columns={reference: label}"
    return DataError(
        given=f"the columns {', '.join(columns)} are of the format {entry.name} ({first})",
        rule=f"such rows are for {' or '.join(entry.stages)}, not for {stage}",
        remedy=remedy,
    )


def _answer_look_alike(columns: Sequence[str], prompt: Dialect) -> str:
    """Suggestion for the answer of rows that have a prompt alone; "" if no column looks like one."""
    column = look_alike("answer", [name for name in columns if name not in prompt.columns])
    if len(prompt.names) > 1 or column is None:
        return ""
    question = prompt.columns[0]
    mapping = "" if question == "question" else f"question: {question}, "
    return f"no column answer; {column} looks like it: columns={{{mapping}answer: {column}}}"


def _learn_reference(dialect: Dialect) -> str:
    if len(dialect.names) < 2:
        return "add a column with the answers"
    question, reference = dialect.columns
    return f"to learn the references as answers: columns={{question: {question}, answer: {reference}}}"


def _near_columns(columns: Sequence[str], formats: Iterable[Format]) -> str:
    """Suggestion for columns whose names are similar to those of a format; "" if there are none."""
    known_names = sorted({column for entry in formats for dialect in entry.dialects for column in dialect.columns})
    near = {column: similar(column.lower(), known_names) for column in columns}
    renames = [f"{column} -> {match[0]}" for column, match in near.items() if match and match[0] != column]
    return f"did you mean to rename {', '.join(renames)}?" if renames else ""
