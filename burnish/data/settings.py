"""Settings of data: choices of how rows are read and tokenized, and the record of a source.

Used by recipes and by `mixture`, `template`, `rendering`, `selection`, `sample_builder` and `shared_prompt`. Imports
neither transformers nor numpy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Documents = Literal["file", "paragraph", "line"]
"""Unit of a document in a text file: the whole file, a paragraph between blank lines, or a line."""

MARKERS: Mapping[str, tuple[str, ...]] = {
    "plain": (),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama2": (),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "gemma": ("<start_of_turn>", "<end_of_turn>"),
    "mistral": (),
}
"""Built-in templates and the tokens that each needs; without any, the tokenizer's end token ends answers."""

TrainOn = Literal["assistant", "last", "answers", "reasoning", "tool_calls", "everything"]
"""Learned part of a conversation. assistant: every assistant turn that the row does not exclude. last: only the last of
these turns. answers: these turns without their reasoning. reasoning: only their reasoning. tool_calls: only their tool
calls. everything: the whole text, prompts included. The end token of every turn that is learned in part is learned."""

SpecialTokenRule = Literal["text", "tokens"]
"""Tokenization of text of control tokens in a row: as ordinary characters, or as the tokens."""

Overlong = Literal["auto", "error", "truncate", "drop_turns", "drop"]
"""Rule for a sample longer than max_length. auto: leave out up to 2 % of the rows, and stop if more are long. error:
stop. truncate: cut its end. drop_turns: drop the earliest turns of
its conversation, but not the system message or the last turn. drop: leave it out. The report counts all of them.
Compared responses are dropped together, are truncated at the same length, and lose the same turns of their prompt."""

MAX_OVERLONG_FRACTION = 0.02
"""Largest fraction of the rows that overlong=auto leaves out."""

Comparison = Literal["rankings", "pairs", "triples", "verdicts", "any", "scores", "steps"]
"""Kind of comparison that a loss needs. rankings: two or more responses with scores. pairs, triples: two or three
responses. verdicts: desirable responses (reward 1) and undesirable ones (reward 0). any: rankings, or single labelled
responses. scores: several scores of each response. steps: a label for each step of a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Source of a data set: a file, folder, pattern or hub set, with its format, weight and count."""

    path: str
    """As `read_rows` takes it, also with ``#500``."""
    name: str | None = None
    """Name of the source in metadata and reports; None: the path."""
    weight: float = 1.0
    """Number of times that each row is in an epoch. 2: twice. 0.5: half of the rows, drawn by the seed, once. 1.5:
    every row once, and half of them, drawn by the seed, once more."""
    count: int | None = None
    """Number of rows drawn by the seed, before the weight; None: all."""
    format: str | None = None
    """A format's name, or file.py:function; None: recognised by the columns."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Canonical column name -> column of this source. Example: ``{"question": "problem"}``."""
    prompt_template: str | None = None
    """Text of prompts with columns in braces, see `formats.prompt_template`; None: the prompt as it is."""
    split: str | None = None
    """Split of a hub set or a folder; None: as `read_rows` decides."""
    documents: Documents = "file"
    """Unit of a document in a text file."""
    stream: int | None = None
    """Number of first rows to fetch of a hub set; None: all."""
    scores: tuple[str, ...] = ()
    """Columns with the scores of a response; (): rows have one of the known formats."""


ROWS_IN_MEMORY = "rows in memory"
"""Name of rows that have no file of the user's."""
STORED_ROWS_FOLDER = "rows-in-memory"
"""Folder of their files in the cache folder."""
_STORED_ROWS = re.compile(rf"(?:.*/)?{STORED_ROWS_FOLDER}/(?P<digest>[0-9a-f]{{64}})\.(?:jsonl|parquet)")


def stored_rows_digest(path: str) -> str | None:
    """sha256 of the content of rows that came from memory; None: the path is no file of `memory.stored`."""
    match = _STORED_ROWS.fullmatch(path)
    return match["digest"] if match else None


def is_stored_rows(path: str) -> bool:
    """Whether a path is a file of `memory.stored`, with rows that came from memory."""
    return stored_rows_digest(path) is not None
