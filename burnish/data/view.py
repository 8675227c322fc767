"""Rows as they will be trained, what is learned in colour: what `burnish data view` shows.

Beside `profile`. Rows are made by the same `maker` as for training, only those that are shown (the longest are known
only when all are made). What stands there is decoded from tokens: what the model sees, not what the row says.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.text import Text

from burnish.data.dataset import DatasetSpec, runs
from burnish.data.sample_builder import SampleBuilder
from burnish.data.selection import Selection, select
from burnish.data.special_token_text import find_special_tokens
from burnish.data.token_store import TokenStore
from burnish.errors import DataError


@dataclass(frozen=True, slots=True)
class RowView:
    """One sample, or the reason why a row has none."""

    where: str
    """File and line."""
    note: str
    """Its numbers, or what is wrong with it."""
    runs: tuple[tuple[str, float], ...]
    """(text, its weight in the loss; 0: it is not learned); empty: nothing of the row is trained."""

    def text(self) -> Text:
        """For a terminal: learned text green, the rest dim."""
        text = Text(f"{self.where}: {self.note}\n", style="bold")
        for part, weight in self.runs:
            text.append(part, style="not bold green" if weight else "not bold dim")
            text.append(_times(weight), style="not bold cyan")
        return text.append("\n")

    def plain(self) -> str:
        """Without colours: learned text in ⟦ ⟧."""
        written = "".join(f"⟦{part}⟧{_times(weight)}" if weight else part for part, weight in self.runs)
        return f"{self.where}: {self.note}\n{written}\n"


def _times(weight: float) -> str:
    """A weight that is worth telling."""
    return "" if weight in (0, 1) else f"×{weight:g}"


def rows_with(maker: SampleBuilder, text: str, count: int) -> list[int]:
    """The first rows that have the text in one of their values.

    Raises:
        DataError: no row has it.
    """
    pattern, rows = re.compile(re.escape(text)), []
    for row in range(len(maker.rows)):
        if find_special_tokens(maker.rows[row], pattern):
            rows.append(row)
            if len(rows) == count:
                break
    if not rows:
        raise DataError(
            given=f"no row of {maker.rows.source} has {text!r}",
            rule="--search looks for exactly this text in all values of a row",
            remedy="look for a part of it; upper and lower case differ",
        )
    return rows


def longest_rows(samples: TokenStore, count: int) -> list[int]:
    """The rows of the longest samples, the longest first."""
    order = np.argsort(-samples.lengths, kind="stable")
    return list(dict.fromkeys(samples.rows[order].tolist()))[:count]


def view_rows(preparation: DatasetSpec, row: int) -> Iterator[RowView]:
    """All samples of a row, within the limit by its rule.

    Raises:
        DataError: there is no such row.
    """
    maker, max_length, overlong = preparation.maker, preparation.max_length, preparation.overlong
    if not -len(maker.rows) <= row < len(maker.rows):
        raise DataError(
            given=f"row {row}",
            rule=f"{maker.rows.source} has {len(maker.rows):,} rows, counted from 0",
            remedy=f"name one from 0 to {len(maker.rows) - 1}",
        )
    row %= len(maker.rows)
    where, made = maker.rows.where(row), maker.make(row, row + 1)
    for fault in made.faults:
        yield RowView(where, f"cannot be used: {fault.given}", ())
    if not len(made.lengths):
        return
    if overlong == "error" and (longest := int(made.lengths.max())) > max_length:
        yield RowView(where, f"{longest:,} tokens, longer than max_length {max_length:,}: it would stop the run", ())
        overlong, max_length = "truncate", longest
    picked, faults = select(maker.rows, made, max_length, overlong)
    for fault in faults:
        yield RowView(where, f"cannot be used: {fault.given}", ())
    for dropped in picked.dropped:
        yield RowView(where, f"dropped: {dropped.reason}", ())
    for first, last in pairwise(picked.opens.tolist()):
        for at in range(first, last):
            yield _sequence(maker, made, picked, at, at - first, last - first)


def _sequence(
    maker: SampleBuilder, made: TokenStore, picked: Selection, at: int, place: int, responses: int
) -> RowView:
    """One sequence; of further responses to a prompt, what follows it."""
    start, length, prompt = int(picked.starts[at]), int(picked.lengths[at]), int(picked.prompt_lengths[at])
    trainable = np.array(made.trainable[start : start + length])
    trainable[:prompt] = False  # the first token of a piece is its prompt
    learned = trainable if made.weights is None else np.where(trainable, made.weights[start:][:length], np.float32(0))
    note = f"{length:,} tokens, {np.count_nonzero(trainable):,} learned"
    if made.worth is not None:
        after = f" after the same {prompt:,} tokens" if place else ""
        note = f"answer {place + 1} of {responses}{after}, worth {made.worth[picked.samples[at]]:g}: {note}"
    shown = slice(prompt if place else 0, None)
    tokens = made.tokens[start : start + length]
    where = maker.rows.where(int(picked.rows[at]))
    return RowView(where, note, runs(tokens[shown], learned[shown], maker.writer.tokenizer))


def page(source: str, shown: Sequence[RowView]) -> str:
    """One HTML page that needs nothing beside it."""
    title = f"{html.escape(source)}, as it is trained"
    samples = "".join(
        f"<h2>{html.escape(each.where)}</h2><p>{html.escape(each.note)}</p><pre>"
        + "".join(
            f"<mark>{html.escape(text)}</mark>{_times(weight)}" if weight else html.escape(text)
            for text, weight in each.runs
        )
        + "</pre>"
        for each in shown
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
