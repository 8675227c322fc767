"""View of rows as they are trained, with learned text in color: the content of `burnish data view`.

Rows are built by the same sample builder as for training, and only the rows that are shown (`--longest` needs all). The
text is decoded from tokens, so it is the input of the model, not the text of the row.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from burnish.data.dataset import DatasetSpec
from burnish.data.sample_builder import SampleBuilder
from burnish.data.selection import Ints, Selection, select
from burnish.data.settings import MAX_OVERLONG_FRACTION
from burnish.data.shown_text import runs
from burnish.data.special_token_text import find_special_tokens
from burnish.data.token_store import TokenStore
from burnish.errors import DataError
from burnish.vision.pictures import thumbnail


@dataclass(frozen=True, slots=True)
class RowView:
    """View of a sample, of a prompt with several responses, of one of these, of one of several samples of a row, or
    of an error of the row."""

    where: str
    """File and line; of one of several responses its verdict alone, such as "chosen"; of several samples its number."""
    note: str
    """Token counts of the sample, or the error."""
    runs: tuple[tuple[str, float], ...]
    """(text, its weight in the loss; 0: not learned); empty: the row is not trained."""
    verdict: str = ""
    """What the data say of the response: chosen, rejected, rank 2, desirable, undesirable; "": nothing."""
    tone: Tone = "good"
    """How the verdict is colored."""
    images: tuple[str, ...] = ()
    """Paths of its images, in order."""

    def text(self) -> Text:
        """Formats for a terminal: learned text green, of a response that others are better than yellow or red; the rest
        dim."""
        color = _COLORS[self.tone]
        text = Text(self.where, style=f"bold {color}" if self.where == self.verdict else "bold")
        text.append(f": {self.note}\n", style="bold")
        for part, weight in self.runs:
            text.append(part, style=f"not bold {color}" if weight else "not bold dim")
            text.append(_weight_suffix(weight), style="not bold cyan")
        return text.append("\n")

    def plain(self) -> str:
        """Formats without color: learned text in ⟦ ⟧."""
        text = "".join(f"⟦{part}⟧{_weight_suffix(weight)}" if weight else part for part, weight in self.runs)
        return f"{self.where}: {self.note}\n{text}\n"


Tone = Literal["good", "middle", "bad"]
"""Place of a response among the verdicts of its row."""
_COLORS: Mapping[Tone, str] = {"good": "green", "middle": "yellow", "bad": "red"}
_NO_VERDICT: tuple[str, Tone] = ("", "good")

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
    builder, limit, overlong = preparation.builder, preparation.limit, preparation.overlong
    max_length = limit.tokens
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
        note = f"{longest:,} tokens, longer than {limit}: {_WITHOUT_PLACE[overlong]}"
        yield RowView(where, note, ())
        overlong, max_length = "truncate", longest
    selection, faults = select(builder.rows, store, replace(limit, tokens=max_length), overlong)
    for fault in faults:
        yield RowView(where, f"cannot be used: {fault.given}", ())
    for dropped in selection.dropped:
        yield RowView(where, f"dropped: {dropped.reason}", ())
    sequences = _Sequences(builder, store, selection)
    for first, last in pairwise(selection.group_starts.tolist()):
        yield from sequences.views(range(first, last))


@dataclass(frozen=True, eq=False, slots=True)
class _Sequences:
    """Sequences of a row, as they are viewed."""

    builder: SampleBuilder
    store: TokenStore
    selection: Selection

    def views(self, members: range) -> Iterator[RowView]:
        """Views of a group: one sequence, or what several begin with, and each of them; the first shows its images."""
        media = self.store.media(int(self.selection.samples[members[0]]))
        images = tuple(medium.source for medium in media)
        for number, view in enumerate(self._views(members)):
            yield view if number else replace(view, images=images)

    def _views(self, members: range) -> Iterator[RowView]:
        where = self.builder.rows.where(int(self.selection.rows[members[0]]))
        if len(members) == 1:
            verdict, tone = _NO_VERDICT if self.store.worth is None else self._verdicts(members)[0]
            title = f"{where}, {verdict}" if verdict else where
            yield RowView(title, self._counts(members[0]), self._runs(members[0], 0), verdict, tone)
            return
        prompt = int(self.selection.prompt_lengths[members[0]])
        if self.store.worth is None:
            yield RowView(where, self._samples_note(members), self._runs(members[0], 0, prompt))
            for number, at in enumerate(members, 1):
                yield self._beyond(f"sample {number}", at, prompt, before=f"sample {number - 1}")
            return
        first_texts = [at for at in members if self.selection.texts[at] == 0]
        note = f"{len(first_texts)} responses to a prompt of {prompt:,} tokens"
        yield RowView(where, note, self._runs(members[0], 0, prompt))
        verdicts = iter(self._verdicts(first_texts))
        for at in members:
            text = int(self.selection.texts[at])
            verdict, tone = (verdict, tone) if text else next(verdicts)
            if not text:
                note, common = self._counts(at, prompt), int(self.selection.shared[at]) - prompt
                note += f", {common:,} of them computed with the response before" if common > 0 else ""
                yield RowView(verdict, note, self._runs(at, prompt), verdict, tone)
            else:
                view = self._beyond(f"{verdict}, text {text + 1}", at, prompt, before=f"text {text}")
                yield replace(view, verdict=view.where, tone=tone)

    def _samples_note(self, members: range) -> str:
        """Tokens of the samples of a conversation, and what is computed of them."""
        tokens = int(self.selection.lengths[members.start : members.stop].sum())
        computed = tokens - int(self.selection.shared[members.start : members.stop].sum())
        return (
            f"{len(members)} samples, since the template rewrites earlier turns: {computed:,} of {tokens:,} tokens are "
            "computed"
        )

    def _beyond(self, title: str, at: int, prompt: int, before: str) -> RowView:
        """View of a sequence from where it leaves the one before it."""
        begin = max(prompt, int(self.selection.shared[at]))
        note = self._counts(at, begin)
        if begin > prompt:
            note += f", after {begin - prompt:,} tokens of {before}"
        return RowView(title, note, self._runs(at, begin))

    def _verdicts(self, members: Sequence[int]) -> list[tuple[str, Tone]]:
        """Verdict of each response of a group, the best first: of one its label, of two chosen and rejected, of more
        their ranks."""
        assert self.store.worth is not None, "compared and labelled responses have rewards"
        rewards = [float(self.store.worth[self.selection.samples[at]]) for at in members]
        if len(rewards) == 1:
            return [("desirable", "good") if rewards[0] > 0 else ("undesirable", "bad")]
        scores = ["" if set(rewards) == {0.0, 1.0} else f" (score {reward:g})" for reward in rewards]
        if len(rewards) == 2:
            return [(f"chosen{scores[0]}", "good"), (f"rejected{scores[1]}", "bad")]
        tones: list[Tone] = [_tone(reward, rewards) for reward in rewards]
        ranks = [1 + sum(other > reward for other in rewards) for reward in rewards]
        return [(f"rank {rank}{score}", tone) for rank, score, tone in zip(ranks, scores, tones, strict=True)]

    def _trainable(self, at: int) -> NDArray[np.bool_]:
        """[T] whether each token of a sequence is learned."""
        start, length, prompt = (int(array[at]) for array in self._extent)
        trainable = np.array(self.store.trainable[start : start + length])
        trainable[:prompt] = False  # the first token of a piece is its prompt
        return trainable

    @property
    def _extent(self) -> tuple[Ints, Ints, Ints]:
        return self.selection.starts, self.selection.lengths, self.selection.prompt_lengths

    def _counts(self, at: int, begin: int = 0) -> str:
        """Numbers of tokens of a sequence from `begin` on."""
        return f"{int(self.selection.lengths[at]) - begin:,} tokens, {np.count_nonzero(self._trainable(at)):,} learned"

    def _runs(self, at: int, begin: int, stop: int | None = None) -> tuple[tuple[str, float], ...]:
        """Text of the tokens [begin, stop) of a sequence, in runs of equal weight."""
        start, length, _ = (int(array[at]) for array in self._extent)
        learned: NDArray[np.bool_] | NDArray[np.float32] = self._trainable(at)
        if self.store.weights is not None:
            learned = np.where(learned, self.store.weights[start:][:length], np.float32(0))
        tokens = self.store.tokens[start : start + length]
        return runs(tokens[begin:stop], learned[begin:stop], self.builder.writer.tokenizer)


def _tone(reward: float, rewards: Sequence[float]) -> Tone:
    if reward == max(rewards):
        return "good"
    return "bad" if reward == min(rewards) else "middle"


def page(source: str, views: Sequence[RowView]) -> str:
    """Self-contained HTML page of the views."""
    title = f"{html.escape(source)}, as it is trained"
    samples = "".join(
        f"<h2{_class(view)}>{html.escape(view.where)}</h2><p>{html.escape(view.note)}</p>"
        f"{''.join(map(_thumbnail, view.images))}<pre>"
        + "".join(
            f"<mark{_class(view)}>{html.escape(text)}</mark>{_weight_suffix(weight)}" if weight else html.escape(text)
            for text, weight in view.runs
        )
        + "</pre>"
        for view in views
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>What is learned is <mark>marked</mark>; the rest is context.</p>{samples}</html>\n"
    )


def _thumbnail(path: str) -> str:
    """Element with a small picture of an image."""
    name = html.escape(path.rpartition("/")[2][:80], quote=True)
    return f'<img src="{thumbnail(path)}" alt="{name}" title="{name}">'


def _class(view: RowView) -> str:
    """Attribute of elements in the color of a verdict that is not good."""
    return "" if view.tone == "good" else f" class={view.tone}"


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1f2430;max-width:900px;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem}h2{font-size:1rem;margin:1.6rem 0 0}p{margin:.2rem 0;color:#6b7280}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f7f9;border-radius:6px;padding:.8rem;color:#6b7280}"
    "mark{background:#d3f3dc;color:#0b5a26;border-radius:2px}"
    "mark.middle{background:#fdf0c4;color:#6b4e00}mark.bad{background:#fbdcd9;color:#8c1d14}"
    "img{margin:.3rem .4rem 0 0;border-radius:4px;image-rendering:auto}"
    "h2.middle{color:#6b4e00}h2.bad{color:#8c1d14}"
)
