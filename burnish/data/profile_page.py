"""Output of a profile: tables for the terminal, a picture, and a self-contained HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from burnish.data.limits import Candidate
from burnish.data.profile import PERCENTILES, Lengths, Profile
from burnish.data.table_page import ACCENT, GRAY, GRID, TEXT, html_list, html_page, html_table
from burnish.errors import DataError

_BAR = "#4c72b0"
_BAR_WIDTH = 28
_NAME = 24
"""Maximum characters of a source's name in a table."""


class ProfileTables:
    """Profile as tables that rich prints. Example: ``Console().print(ProfileTables(profile))``."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        profile = self._profile
        for title, head, rows in tables(profile):
            table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None)
            for index, name in enumerate(head):
                table.add_column(name, justify="right" if index and name else "left", no_wrap=True)
            for row in rows:
                table.add_row(*row)
            yield table
            yield ""
        yield from facts(profile)
        yield f"[bold]max_length={profile.recommended.max_length}[/bold]: {profile.why}"


def tables(profile: Profile) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Yields title, column names and rows of each table."""
    head = ("", "samples", "tokens", "learned", "shared", *(f"p{p}" if p < 100 else "longest" for p in PERCENTILES))
    lengths_of_sources = profile.sources if len(profile.sources) == 1 else (*profile.sources, profile.whole)
    names = [_shortened(source.name) for source in profile.sources] + ["all together"]
    rows = [_lengths_row(name, lengths) for name, lengths in zip(names, lengths_of_sources, strict=False)]
    yield "Lengths, in tokens", head, rows
    yield "How many are how long", ("tokens", "samples", ""), list(_histogram(profile))
    columns = ("max_length", "longer", "cut keeps", "drop keeps", "computed", "attention")
    yield (
        "What a limit keeps of the learned tokens, and costs",
        columns,
        [_candidate_row(candidate, profile) for candidate in profile.candidates],
    )


def _shortened(name: str) -> str:
    """Shortens a long path to its end."""
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"


def facts(profile: Profile) -> Iterator[str]:
    """Yields the facts that are not in tables, one line each."""
    yield f"{profile.rows:,} rows ({profile.format}), {profile.unusable:,} of them unusable"
    if profile.whole.shared:
        computed = profile.whole.tokens - profile.whole.shared
        yield f"samples of one row share their beginnings: {computed:,} of {profile.whole.tokens:,} tokens are computed"
    yield f"{profile.duplicates:,} samples repeat an earlier one exactly"
    if profile.empty_answers:
        yield f"{profile.empty_answers:,} rows have an empty answer, which teaches the model to end at once"
    part = f" (of {profile.looked_at:,} rows)" if profile.looked_at < profile.rows else ""
    if profile.roles:
        yield "messages" + part + ": " + ", ".join(f"{count:,} {role}" for role, count in profile.roles.items())
        yield "learned turns: " + ", ".join(
            f"{count:,} with {turns}" for turns, count in list(profile.turns.items())[:8]
        )
    yield "scripts" + part + ": " + ", ".join(f"{name.lower()} {share:.1%}" for name, share in profile.scripts.items())


def _lengths_row(name: str, lengths: Lengths) -> tuple[str, ...]:
    share = lengths.learned / lengths.tokens
    return (
        name,
        f"{lengths.samples:,}",
        f"{lengths.tokens:,}",
        f"{share:.0%}",
        f"{lengths.shared / lengths.tokens:.0%}",
        *(f"{value:,}" for value in lengths.percentiles),
    )


def _candidate_row(candidate: Candidate, profile: Profile) -> tuple[str, ...]:
    mark = " ←" if candidate is profile.recommended else ""
    return (
        f"{candidate.max_length:,}{mark}",
        f"{candidate.longer:,} ({candidate.longer / profile.whole.samples:.1%})",
        f"{candidate.learned:.1%}",
        f"{candidate.learned_if_dropped:.1%}",
        f"{candidate.computed:.1%}",
        f"{candidate.attention:.1%}",
    )


def _edges(profile: Profile) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    low, high = float(profile.lengths.min()), float(profile.lengths.max())
    return np.geomspace(max(low, 1.0), high + 1, 13)


def _histogram(profile: Profile) -> Iterator[tuple[str, ...]]:
    edges = np.unique(np.round(_edges(profile)).astype(np.int64))
    counts, _ = np.histogram(profile.lengths, edges)
    for start, stop, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
        yield f"{start:,}–{stop - 1:,}", f"{count:,}", "█" * round(_BAR_WIDTH * count / max(1, counts.max()))


def write_profile(profile: Profile, folder: Path) -> tuple[Path, Path]:
    """Writes lengths.png and profile.html into a folder, and returns their paths.

    Raises:
        DataError: matplotlib is not installed, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            given=f"{folder} cannot be made: {error}", rule="--output is a folder", remedy="name another folder"
        ) from error
    picture, page = folder / "lengths.png", folder / "profile.html"
    draw(profile, picture)
    page.write_text(_page(profile, picture.read_bytes()), encoding="utf-8")
    return picture, page


def draw(profile: Profile, path: Path) -> None:
    """Draws a histogram of lengths, and the shares that each limit keeps."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError(
            given="matplotlib is not installed",
            rule="pictures are drawn with it",
            remedy="pip install 'burnish[plot]', or leave --output out",
        ) from error
    figure = Figure(figsize=(11, 4.4), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_lengths(left, profile)
    _draw_limits(right, profile)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GRID)
        axes.tick_params(colors=GRAY, labelsize=9, length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.title.set(color=TEXT, fontsize=11, fontweight="bold")
    figure.savefig(path)


def _draw_lengths(axes, profile: Profile) -> None:  # type: ignore[no-untyped-def]  # matplotlib is optional
    lengths, best = profile.lengths, profile.recommended.max_length
    bins = np.geomspace(max(1, lengths.min()), lengths.max() + 1, 48)
    axes.hist(np.minimum(lengths, bins[-1]), bins=bins, color=_BAR, edgecolor="white", linewidth=0.4)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_title("Lengths of samples", loc="left")
    axes.set_xlabel("tokens", color=GRAY)
    axes.set_ylabel("samples", color=GRAY)
    top = axes.get_ylim()[1]
    for name, value in (("median", profile.whole.percentiles[1]), ("p99", profile.whole.percentiles[3])):
        axes.axvline(value, color=GRAY, linewidth=1, linestyle=(0, (3, 3)))
        axes.text(value, top * 1.005, f"{name} {value:,}", color=GRAY, fontsize=8, ha="center", va="bottom")
    axes.axvline(best, color=ACCENT, linewidth=1.6)
    style = {"color": ACCENT, "fontsize": 9, "fontweight": "bold", "ha": "right"}
    place = {"xytext": (-7, 0), "textcoords": "offset points"}
    name = axes.annotate(f"max_length {best:,}", (best, top * 0.93), **place, **style)
    name.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})


def _draw_limits(axes, profile: Profile) -> None:  # type: ignore[no-untyped-def]  # matplotlib is optional
    at = np.arange(len(profile.candidates))
    series = (
        ("learned tokens, long samples cut", "o", _BAR, [c.learned for c in profile.candidates]),
        ("learned tokens, long samples dropped", "s", "#8da0cb", [c.learned_if_dropped for c in profile.candidates]),
        ("tokens computed", "^", "#55a868", [c.computed for c in profile.candidates]),
    )
    for name, marker, color, values in series:
        axes.plot(at, np.array(values) * 100, marker=marker, color=color, label=name, linewidth=1.6, markersize=5)
    axes.axvline(profile.candidates.index(profile.recommended), color=ACCENT, linewidth=1.6)
    axes.set_xticks(at, [f"{c.max_length:,}" for c in profile.candidates], rotation=30 if len(at) > 6 else 0)
    axes.set_ylim(0, 104)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    axes.set_title("What a limit keeps", loc="left")
    axes.set_xlabel("max_length", color=GRAY)
    axes.legend(framealpha=1, edgecolor="white", fontsize=8.5, loc="lower right", labelcolor=TEXT)


def _page(profile: Profile, picture: bytes) -> str:
    parts = "".join(html_table(title, head, rows) for title, head, rows in tables(profile))
    image = base64.b64encode(picture).decode()
    return html_page(
        f"Profile of {profile.source}",
        f"<p class=best><b>max_length={profile.recommended.max_length}</b>: {html.escape(profile.why)}</p>"
        f'<img alt="Lengths of samples, and what each limit keeps" src="data:image/png;base64,{image}">'
        f"{html_list(list(facts(profile)))}{parts}",
    )
