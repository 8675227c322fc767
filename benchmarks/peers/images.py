"""Cases with images: the built-in vision-language model, its rows of drawn shapes, and the settings of contenders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import burnish
from burnish.builtin.sets import builtin_rows
from burnish.rollouts.prompt_order import PromptOrder
from burnish.sources.epoch_order import epoch_order
from peers.cases import FLOAT32, Case, Contender

Method = Literal["sft", "prefer", "rl"]
MODEL = Path(burnish.__file__).parent / "builtin" / "tiny-vision"
CASES: dict[Method, Case] = {
    "sft": Case("tiny-vision", "shapes", per_step=32),
    "prefer": Case("tiny-vision", "shapes-preferences", per_step=32),
    "rl": Case("tiny-vision", "shapes-counting", per_step=8),
}
"""With rows, pairs and prompts of a step."""
AGREEMENT = 1e-4
"""Largest relative difference of float32 results of the first two steps (GRPO: of the first, from TRL's responses)."""

_OURS: dict[str, Any] = {
    "chat_template": "chatml",
    "vision.tower": "trained",
    "vision.projector": "trained",
}
"""All weights are trained, as by TRL."""
BURNISH = Contender("burnish", "burnish", settings=_OURS)
DEFAULTS = Contender("TRL, defaults", "trl")
"""bfloat16 autocast, gradient checkpointing, 8 padded rows a forward."""
SEARCHED = tuple(Contender(f"TRL, float32, {n}", "trl", n, FLOAT32) for n in (4, 8, 16, 32, 64))
"""Candidates for TRL's best setting: rows (pairs, responses) of a forward. TRL 1.16 refuses packing, padding-free rows
and a reference that is computed once for rows with images, and continuous batching for models with a processor."""


@dataclass(frozen=True, slots=True)
class Files:
    """Rows of both contenders: Burnish's in the order of the file, TRL's in the order in which Burnish draws."""

    ours: Path

    @property
    def theirs(self) -> Path:
        return self.ours.with_suffix(".theirs")


def method_of(case: Case) -> Method:
    """The method that trains on the rows of a case."""
    return next(method for method, each in CASES.items() if each.data == case.data)


def write_rows(path: Path, case: Case, steps: int) -> None:
    """Writes rows for a number of steps: the built-in set's, as they are."""
    files, rows = Files(path), builtin_rows(case.data, count=steps * case.rows_per_step)
    drawn = PromptOrder(len(rows), seed=0).take(len(rows)) if method_of(case) == "rl" else epoch_order(0, 0, len(rows))
    files.ours.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    files.theirs.write_text(
        "".join(f"{json.dumps(_as_columns(dict(rows[int(row)])))}\n" for row in drawn), encoding="utf-8"
    )


def _as_columns(row: dict[str, Any]) -> dict[str, Any]:
    """A row as TRL's data sets have it: a conversation of texts, and a column of images."""
    turns = row.pop("messages", None)
    prompt = turns[:1] if turns else row["prompt"]
    parts = prompt[0]["content"]
    answers = (
        {"completion": turns[1:]} if turns else {name: row[name] for name in ("chosen", "rejected") if name in row}
    )
    return {
        "images": [part["image"] for part in parts if part["type"] == "image"],
        "prompt": [{"role": "user", "content": "".join(part["text"] for part in parts if part["type"] == "text")}],
        **answers,
    }
