"""A run folder as a run leaves it, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """\
model: builtin/tiny  # command line
seed: 0  # default
stages:
  - sft:
      data: "rows #1.jsonl"  # command line
      learning_rate: 0.001  # default of optimizer.kind: adamw with full weights
"""
SET = {
    "role": "training",
    "source": "rows.jsonl",
    "format": "question_answer",
    "rows": 6000,
    "tokens": 254339,
    "trained_tokens": 88001,
    "longest": 56,
    "notes": ["dropped 3: longer than 512 tokens"],
    "example": [["<|user|>\nWhat is 1 plus 1?", False], ["It is 2.<|end|>", True]],
}
ENVIRONMENT = {"command": "burnish sft", "cuda": None, "versions": {"torch": "2.13.0"}}


def metrics_of(step: int) -> dict[str, object]:
    """A line of training: 100 tokens in half a second at a quarter of the peak."""
    speed = {"tokens_per_second": 200.0, "seconds_per_step": 0.5, "mfu": 0.25, "memory_gib": 1.5}
    return {"stage": "sft", "step": step, "train/loss": 4 / step, "train/grad_norm": 1.0 + step % 3, **speed}


def sample(step: int, index: int, response: str, **more: object) -> dict[str, object]:
    """A line of samples.jsonl."""
    line = {"stage": "sft", "step": step, "index": index, "prompt": f"prompt {index}", "response": response}
    return {**line, "reference": None, "correct": None, **more}


def write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder of so many steps, with samples, data and all."""

    def make(steps: int = 100, samples: list[dict[str, object]] | None = None) -> Path:
        folder = tmp_path / "brass"
        folder.mkdir()
        before = {"stage": "sft", "step": 0, "eval/loss": 3.5, "eval/accuracy": 0.1}
        after = {"stage": "sft", "step": steps, "eval/loss": 0.5, "eval/accuracy": 0.85}
        write_lines(folder / "metrics.jsonl", [before, *(metrics_of(step) for step in range(1, steps + 1)), after])
        pairs = [sample(step, index, f"answer {step}/{index}") for step in (0, steps) for index in (3, 7)]
        write_lines(folder / "samples.jsonl", pairs if samples is None else samples)
        (folder / "recipe.yaml").write_text(RECIPE)
        (folder / "data.json").write_text(json.dumps({"stages": [{"stage": "sft", "mixture": [], "sets": [SET]}]}))
        (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
        return folder

    return make
