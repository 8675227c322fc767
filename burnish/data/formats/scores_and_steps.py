"""Formats of responses with several scores, or with a label for each step."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from burnish.data.formats.comparisons import require_answer, response_to
from burnish.data.formats.fields import kind, listed, number
from burnish.data.formats.format import Dialect, Format
from burnish.data.formats.media import WithMedia
from burnish.data.formats.messages import tools
from burnish.data.formats.prompt_columns import prompt_for, with_system_message
from burnish.data.records import Scored, Stepped
from burnish.data.row import Row
from burnish.errors import DataError


def stepwise(row: Row) -> Stepped:
    """Columns prompt or question, completions (the steps), and labels (true, false, or numbers), one for each step."""
    steps = [_step(step, index) for index, step in enumerate(listed(row.get("completions"), "completions"))]
    labels = [_label(label, index) for index, label in enumerate(listed(row.get("labels"), "labels"))]
    if not steps or len(steps) != len(labels):
        raise DataError(
            given=f"{len(steps)} steps and {len(labels)} labels",
            rule="there is at least one step, and every step has a label",
            remedy="correct the row",
        )
    return Stepped(with_system_message(row, prompt_for(row)), tuple(steps), tuple(labels), tools(row))


def _step(step: object, index: int) -> str:
    if isinstance(step, str) and step.strip():
        return step
    raise DataError(
        given=f"completions[{index}] is {'empty' if isinstance(step, str) else kind(step)}",
        rule="a step is text, and its label belongs to its last character that is no white space",
        remedy="give the step a text, or delete it with its label",
    )


def _label(label: object, index: int) -> float:
    return float(label) if isinstance(label, bool) else number(label, f"labels[{index}]")


@dataclass(frozen=True, slots=True)
class ReadScores:
    """Converts rows of prompt or question, completion, and a column for each score."""

    names: tuple[str, ...]
    """Names of the score columns."""

    def __call__(self, row: Row) -> Scored:
        prompt = prompt_for(row, row.get("completion"))
        response = response_to(row.get("completion"), prompt, "completion")
        require_answer(response, "completion")
        scores = tuple(number(row.get(name), name) for name in self.names)
        return Scored(with_system_message(row, prompt), response, scores, tools(row))


def scored(names: Sequence[str], columns: Sequence[str], dialects: Sequence[Dialect], given: Container[str]) -> Format:
    """Returns the format of responses with these score columns.

    Args:
        names: names of the score columns.
        columns: columns of the rows.
        dialects: dialects of the columns of prompt and response.
        given: canonical names that the user maps to a column.

    Raises:
        DataError: a column is missing.
    """
    scores = tuple((name, name) for name in names)
    with_scores = tuple(Dialect((*dialect.names, *scores)) for dialect in dialects)
    takes = ("tools", "functions", "tags", "system", "system_prompt")
    convert = WithMedia(ReadScores(tuple(names)))
    format = Format("scores", with_scores, convert, ("reward",), takes, identity=f"{tuple(names)}")
    fitting = format.fitting(columns, given)
    if not fitting:
        absent = [name for name in names if name not in columns]
        raise DataError(
            given=f"the columns {', '.join(columns)}, and scores: {', '.join(names)}",
            rule="a row has a prompt (or question), a completion (or response), and a column for every score",
            remedy=f"name scores that are there: {', '.join(absent)} is not"
            if absent
            else "say what they are: columns.question=... columns.completion=...",
        )
    return format.for_dialect(fitting[0])
