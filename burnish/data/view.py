"""View of rows as they are trained, with learned text in color: the content of `burnish data view`.

Rows are built by the same sample builder as for training, and only the rows that are shown (`--longest` needs all). The
text is decoded from tokens, so it is the input of the model, not the text of the row.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.text import Text

from burnish.data.dataset import DatasetSpec, runs
from burnish.data.sample_builder import SampleBuilder
from burnish.data.selection import Selection, select
from burnish.data.settings import MAX_OVERLONG_FRACTION
from burnish.data.special_token_text import find_special_tokens
from burnish.data.token_store import TokenStore
from burnish.errors import DataError


@dataclass(frozen=True, slots=True)
class RowView:
    """View of a sample, or of an error of the row."""

    where: str
    """File and line."""
    note: str
    """Token counts of the sample, or the error."""
    runs: tuple[tuple[str, float], ...]
    """(text, its weight in the loss; 0: not learned); empty: the row is not trained."""

    def text(self) -> Text:
        """Formats for a terminal: learned text green, the rest dim."""
        text = Text(f"{self.where}: {self.note}\n", style="bold")
        for part, weight in self.runs:
            text.append(part, style="not bold green" if weight else "not bold dim")
            text.append(_weight_suffix(weight), style="not bold cyan")
        return text.append("\n")

    def plain(self) -> str:
        """Formats without color: learned text in ⟦ ⟧."""
        text = "".join(f"⟦{part}⟧{_weight_suffix(weight)}" if weight else part for part, weight in self.runs)
        return f"{self.where}: {self.note}\n{text}\n"


_WITHOUT_PLACE: Mapping[str, str] = {
    "error": "it would stop the run",
    "auto": f"it is left out, or stops the run if more than {MAX_OVERLONG_FRACTION * 100:g} % of the rows are",
}
"""Rule for long rows -> what becomes of one that is shown whole."""


def _weight_suffix(weight: float) -> str:
    """Suffix of a weight other than 0 and 1."""
    return "" if weight in (0, 1) else f"×{weight:g}"


def rows_with(builder: SampleBuilder, text: str, count: int) -> list[int]:
    """Returns the first rows with the text in one of their values.

    Raises:
        DataError: no row has the text.
    """
    pattern, rows = re.compile(re.escape(text)), []
    for row in range(len(builder.rows)):
        if find_special_tokens(builder.rows[row], pattern):
            rows.append(row)
            if len(rows) == count:
                break
    if not rows:
        raise DataError(
            given=f"no row of {builder.rows.source} has {text!r}",
            rule="--search looks for exactly this text in all values of a row",
            remedy="look for a part of it; upper and lower case differ",
        )
    return rows


def longest_rows(samples: TokenStore, count: int) -> list[int]:
    """Returns the rows of the longest samples, the longest first."""
    order = np.argsort(-samples.lengths, kind="stable")
    return list(dict.fromkeys(samples.rows[order].tolist()))[:count]


def view_rows(preparation: DatasetSpec, row: int) -> Iterator[RowView]:
    """Yields views of all samples of a row, under max_length and overlong.

    Raises:
        DataError: there is no such row.
    """
    builder, max_length, overlong = preparation.builder, preparation.max_length, preparation.overlong
    if not -len(builder.rows) <= row < len(builder.rows):
        raise DataError(
            given=f"row {row}",
            rule=f"{builder.rows.source} has {len(builder.rows):,} rows, counted from 0",
            remedy=f"name one from 0 to {len(builder.rows) - 1}",
        )
    row %= len(builder.rows)
    where, store = builder.rows.where(row), builder.make(row, row + 1)
    for fault in store.faults:
        yield RowView(where, f"cannot be used: {fault.given}", ())
    if not len(store.lengths):
        return
    if overlong in _WITHOUT_PLACE and (longest := int(store.lengths.max())) > max_length:
        note = f"{longest:,} tokens, longer than max_length {max_length:,}: {_WITHOUT_PLACE[overlong]}"
        yield RowView(where, note, ())
        overlong, max_length = "truncate", longest
    selection, faults = select(builder.rows, store, max_length, overlong, builder.max_tokens)
    for fault in faults:
        yield RowView(where, f"cannot be used: {fault.given}", ())
    for dropped in selection.dropped:
        yield RowView(where, f"dropped: {dropped.reason}", ())
    for first, last in pairwise(selection.group_starts.tolist()):
        for at in range(first, last):
            yield _view_sequence(builder, store, selection, at, at - first, last - first)


def _view_sequence(
    builder: SampleBuilder, store: TokenStore, selection: Selection, at: int, response_index: int, num_responses: int
) -> RowView:
    """View of one sequence; further responses to a prompt are shown without it."""
    start, length, prompt = int(selection.starts[at]), int(selection.lengths[at]), int(selection.prompt_lengths[at])
    trainable = np.array(store.trainable[start : start + length])
    trainable[:prompt] = False  # the first token of a piece is its prompt
    learned = trainable if store.weights is None else np.where(trainable, store.weights[start:][:length], np.float32(0))
    note = f"{length:,} tokens, {np.count_nonzero(trainable):,} learned"
    if store.worth is not None:
        reward = store.worth[selection.samples[at]]
        after = f" after the same {prompt:,} tokens" if response_index else ""
        note = f"answer {response_index + 1} of {num_responses}{after}, reward {reward:g}: {note}"
    visible = slice(prompt if response_index else 0, None)
    tokens = store.tokens[start : start + length]
    where = builder.rows.where(int(selection.rows[at]))
    return RowView(where, note, runs(tokens[visible], learned[visible], builder.writer.tokenizer))


def page(source: str, views: Sequence[RowView]) -> str:
    """Self-contained HTML page of the views."""
    title = f"{html.escape(source)}, as it is trained"
    samples = "".join(
        f"<h2>{html.escape(view.where)}</h2><p>{html.escape(view.note)}</p><pre>"
        + "".join(
            f"<mark>{html.escape(text)}</mark>{_weight_suffix(weight)}" if weight else html.escape(text)
            for text, weight in view.runs
        )
        + "</pre>"
        for view in views
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>What is learned is <mark>marked</mark>; the rest is context.</p>{samples}</html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1f2430;max-width:900px;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem}h2{font-size:1rem;margin:1.6rem 0 0}p{margin:.2rem 0;color:#6b7280}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f7f9;border-radius:6px;padding:.8rem;color:#6b7280}"
    "mark{background:#d3f3dc;color:#0b5a26;border-radius:2px}"
)
