"""Plots the results of `sft_peers.py`: tokens per second and memory above the loaded model, a panel for each case.

``python benchmarks/peers_picture.py docs/pictures/sft_peers.json [more.json ...] docs/pictures/sft_peers.png``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OURS, THEIRS = ("#b5541c", "#dd9a70"), ("#33658a", "#6f9ebf", "#aac4d6", "#d4e1ea")
"""Colors of Burnish's bars and of the others, in their order."""


def draw_bars(axes: Axes, result: dict[str, Any], metric: str, form: str) -> None:
    """One bar for each contender, Burnish on top."""
    names = list(result["contenders"])
    values = [contender[metric] for contender in result["contenders"].values()]
    ours, theirs = iter(OURS), iter(THEIRS)
    bars = axes.barh(names, values, color=[next(ours if name.startswith("burnish") else theirs) for name in names])
    axes.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=8)
    axes.set_xlim(0, max(values) * 1.25)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def main(sources: list[Path], target: Path) -> None:
    results = [case for source in sources for case in json.loads(source.read_text(encoding="utf-8"))]
    figure, panels = plt.subplots(
        len(results), 2, figsize=(11, 1.7 * len(results) + 0.6), squeeze=False, layout="constrained"
    )
    for result, (speed, memory) in zip(results, panels, strict=True):
        draw_bars(speed, result, "tokens_per_second", "{:,.0f}")
        draw_bars(memory, result, "beyond_mib", "{:,.0f}")
        speed.set_title(f"{result['case']}: tokens per second", fontsize=9, loc="left")
        memory.set_title("MiB above the loaded model", fontsize=9, loc="left")
        memory.set_yticklabels([])
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main([Path(source) for source in sys.argv[1:-1]], Path(sys.argv[-1]))
