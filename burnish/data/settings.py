"""What may be chosen of how rows are read and made into tokens: names and their meaning, and the record of a source.

Stands between a recipe and the modules that do it (`mixture`, `template`, `rendering`, `lengths`, `maker`, `siblings`),
and needs neither transformers nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Documents = Literal["file", "paragraph", "line"]
"""What one document of a text file is: the whole file, what stands between blank lines, or a line."""

MARKERS: Mapping[str, tuple[str, ...]] = {
    "plain": (),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama2": (),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "mistral": (),
}
"""Our templates and the tokens that each needs; those that need none end answers with the tokenizer's end token."""

TrainOn = Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
"""What is learned of a conversation. assistant: every assistant turn that the row does not exclude. last: only the last
of these. answers: they without their reasoning. reasoning: only that. tool_calls: only their calls. everything: the
whole text, prompts included. The end of every turn that is learned in part is learned."""

TRAIN_ON: tuple[TrainOn, ...] = get_args(TrainOn)

SpecialTokenRule = Literal["text", "tokens"]
"""What text of control tokens in a row becomes: the characters that it consists of, or the tokens."""

Overlong = Literal["error", "truncate", "drop_turns", "drop"]
"""What happens to a sample longer than the limit: an error; left out and counted; cut at its end and counted; or its
conversation loses its earliest turns, but not its system message nor its last turn. Responses that are compared are
left out together; all are cut at the same place, and their prompt loses the same turns for all."""

Comparison = Literal["rankings", "pairs", "triples", "verdicts", "any", "scores", "steps"]
"""What is learned from judged responses. rankings: which is better, of two or more. pairs, triples: of so many.
verdicts: which are wanted (their reward is 1) and which are not (0). any: rankings, or single labelled responses.
scores: several of each response. steps: how good each step of a response is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A file, folder, pattern or hub set, and how much of it is learned as what."""

    path: str
    """As `read_rows` takes it, also with ``#500``."""
    name: str | None = None
    """What its groups are called in metadata and reports; None: the path."""
    weight: float = 1.0
    """How often each of its rows stands in an epoch. 2: twice. 0.5: half of the rows, drawn by the seed, once. 1.5:
    every row once, and half of them, drawn by the seed, once more."""
    count: int | None = None
    """Rows to draw by the seed, before the weight; None: all."""
    format: str | None = None
    """A format's name, or file.py:function; None: recognised by the columns."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name -> the column that has it in this source. Example: ``{"question": "problem"}``."""
    split: str | None = None
    """Of a hub set or a folder; None: as `read_rows` decides."""
    documents: Documents = "file"
    """What one document of a text file is."""
    stream: int | None = None
    """Of a hub set, fetch only so many rows, the first ones; None: all."""
    scores: tuple[str, ...] = ()
    """Columns with the scores of a response; (): rows have one of the formats."""
