"""Draws docs/pictures/prefix_tree.png: a conversation as a tree, its packed row, and who sees whom.

    python -m scripts.tree_picture

The row and the visibility are those of `packing.pack` and `model.flex.layout_mask` for a small group; needs matplotlib.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import create_mask

from burnish.model.flex import layout_mask
from burnish.packing import pack
from burnish.prefix_tree import PrefixTree
from burnish.types import Group, Microbatch, Response

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "prefix_tree.png"
PARTS = {"q1": 3, "t1": 4, "a1": 2, "q2": 2, "t2": 4, "a2": 2, "q3": 2, "t3": 4, "a3": 2}
"""Question, thought and answer of each turn, and their tokens."""
SAMPLES = (("t1", "a1"), ("a1", "q2", "t2", "a2"), ("a1", "q2", "a2", "q3", "t3", "a3"))
"""What follows the first question in the sample of each turn: earlier answers without their thoughts."""
COLORS = {"q": "#dfe5ee", "t": "#f6dfc0", "a": "#cfe6d4"}
TRUNK, INK = "#eef0f4", "#1f2430"
CELL = 0.5


def tokens_of(names: tuple[str, ...]) -> torch.Tensor:
    """Token ids that tell a part and a place in it."""
    numbers = {name: 100 * index for index, name in enumerate(PARTS)}
    return torch.tensor([numbers[name] + place for name in names for place in range(PARTS[name])])


def conversation() -> Group:
    """The group of the three samples, each of which trains its own thought and answer."""
    responses = []
    for names in SAMPLES:
        trained = [name in names[-2:] for name in names for _ in range(PARTS[name])]
        responses.append(Response(tokens=tokens_of(names), trainable=torch.tensor(trained)))
    shared = [sum(PARTS[name] for name in names) for names in (("a1", "q2"), ())]
    return Group(
        prompt=tokens_of(("q1",)), responses=tuple(responses), tree=PrefixTree(order=(2, 1, 0), shared=(0, *shared))
    )


def part_at(token: int) -> str:
    """The part that a token id is of."""
    return list(PARTS)[token // 100]


def draw_tree(axes: Axes) -> None:
    """The tree: from left to right the trunk, and from it the thoughts and answers of the turns."""
    trunk = ("q1", "a1", "q2", "a2", "q3")
    starts, x = {}, 0.0
    for name in trunk:
        starts[name] = x
        _box(axes, x, 0, name, trained=False)
        x += PARTS[name] * CELL
    for branch, (after, names) in enumerate({"q1": ("t1", "a1"), "q2": ("t2", "a2"), "q3": ("t3", "a3")}.items(), 1):
        begin = starts[after] + PARTS[after] * CELL
        y = -1.1 * (3 - branch)
        if y:
            axes.plot([begin, begin, begin + 0.15], [0.0, y + 0.25, y + 0.25], color=INK, linewidth=1)
            begin += 0.15
        for name in names:
            _box(axes, begin, y, name, trained=True)
            begin += PARTS[name] * CELL
        axes.text(begin + 0.15, y + 0.25, f"sample {branch}", va="center", color=INK, fontsize=9)
    axes.set_xlim(-0.2, 11)
    axes.set_ylim(-2.6, 0.9)
    axes.axis("off")
    axes.set_title("The tree: answers in the trunk have lost their thoughts", loc="left", fontsize=10, color=INK)


def _box(axes: Axes, x: float, y: float, name: str, *, trained: bool) -> None:
    width = PARTS[name] * CELL
    color = COLORS[name[0]] if trained else TRUNK
    axes.add_patch(Rectangle((x, y), width, 0.5, facecolor=color, edgecolor=INK, linewidth=0.8))
    axes.text(x + width / 2, y + 0.25, name, ha="center", va="center", fontsize=9, color=INK)


def draw_mask(axes: Axes, microbatch: Microbatch) -> None:
    """The packed row along both axes, and the keys that every query sees."""
    size = len(microbatch.tokens)
    mask: NDArray[np.bool_] = create_mask(layout_mask(microbatch.layout, None), 1, 1, size, size, device="cpu")[0, 0]
    axes.imshow(np.where(mask, 0.75, 0.0), cmap="Blues", vmin=0, vmax=1)
    names = [part_at(token) for token in microbatch.tokens.tolist()]
    begins = {segment.start for segment in microbatch.layout.segments}
    borders = [0, *(i for i in range(1, size) if names[i] != names[i - 1] or i in begins), size]
    trained = set(microbatch.token_positions.tolist())
    for first, last in pairwise(borders):
        color = COLORS[names[first][0]] if first in trained else TRUNK
        axes.add_patch(Rectangle((first - 0.5, -2.9), last - first, 1.8, facecolor=color, edgecolor=INK, clip_on=False))
        axes.text((first + last - 1) / 2, -2.0, names[first], ha="center", va="center", fontsize=8, color=INK)
        axes.text(-1, (first + last - 1) / 2, names[first], ha="right", va="center", fontsize=8, color=INK)
    for segment in microbatch.layout.segments[1:]:
        axes.axhline(segment.start - 0.5, color=INK, linewidth=0.8)
        axes.axvline(segment.start - 0.5, color=INK, linewidth=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    title = "The packed row, and the keys (columns) that a query (row) sees"
    axes.set_title(title, loc="left", fontsize=10, color=INK, pad=40)


def main() -> None:
    """Writes the picture."""
    [microbatch] = pack([conversation()], 1000)
    figure = Figure(figsize=(11, 5.4), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    draw_tree(left)
    draw_mask(right, microbatch)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
