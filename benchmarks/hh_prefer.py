"""DPO on HH-RLHF with a small real model: pair accuracy on held-out dialogs before and after, seed by seed.

    python benchmarks/hh_prefer.py MODEL TRAIN EVAL [--seeds 3] [--steps 200] [--measured 500] [key=value ...]

TRAIN and EVAL are files of chosen/rejected dialogs (Anthropic's HH-RLHF, helpful-base: a .jsonl or .jsonl.gz); with
one file for both, its odd rows are trained and its even rows measured. Prints a Markdown table: accuracy by the mean
log-probability of a token, which is defined before training too, and by the implicit reward of DPO, each also with
length controlled, with 95 % intervals. Dialogs that are too long lose their earliest turns, and those that are still
too long are left out (overlong=drop_turns, max_invalid_fraction=1), unless a setting overrides this. `hh_reward` is
the same for reward models.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import burnish
from burnish.stages.result import RunResult

MEASURES = {
    "by log-probability": "pair_accuracy_by_logprob",
    "same, length controlled": "pair_accuracy_by_logprob_length_controlled",
    "by implicit reward": "pair_accuracy",
    "same, length controlled ": "pair_accuracy_length_controlled",
}


USUAL = {
    "sequences_per_step": 16,
    "overlong": "drop_turns",
    "max_invalid_fraction": 1.0,
    "chat_template": "plain",
}
"""Default settings of both stages."""
Train = Callable[..., RunResult]


def main() -> None:
    compare(burnish.prefer, MEASURES, {**USUAL, "learning_rate": 1e-4, "beta": 0.1}, __doc__.splitlines()[0])


def compare(train_by: Train, measures: Mapping[str, str], usual: Mapping[str, object], about: str) -> None:
    """Prints a table of held-out accuracy before and after a stage, seed by seed.

    Args:
        train_by: `burnish.prefer` or `burnish.reward`.
        measures: heading -> name of the metric.
        usual: default settings.
        about: description of the program.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("model")
    parser.add_argument("train", type=Path)
    parser.add_argument("eval", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--measured", type=int, help="Held-out rows, drawn by seed 0; all if it is not given.")
    parser.add_argument("settings", nargs="*", help="key=value")
    given = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        train, held_out = files(given.train, given.eval, given.measured, folder)
        print("| seed | step | " + " | ".join(measures) + " |")
        print("| --- " * (len(measures) + 2) + "|", flush=True)
        settings = {**usual, **parsed(given.settings)}
        for seed in range(given.seeds):
            done = train_by(
                model=given.model,
                data=str(train),
                eval_data=str(held_out),
                output=str(folder / f"seed-{seed}"),
                seed=seed,
                max_steps=given.steps,
                **settings,
            )
            for line in evaluations(done):
                cells = (cell(line, name) for name in measures.values())
                print(f"| {seed} | {line['step']} | " + " | ".join(cells) + " |", flush=True)


def files(train: Path, held_out: Path, measured: int | None, folder: Path) -> tuple[Path, Path]:
    """Files of training and held-out rows; two halves where both are the same file."""
    train_rows, held_out_rows = list(lines_of(train)), list(lines_of(held_out))
    if train == held_out:
        train_rows, held_out_rows = train_rows[1::2], held_out_rows[0::2]
    if measured is not None:
        held_out_rows = random.Random(0).sample(held_out_rows, measured)
    for name, part in {"train.jsonl": train_rows, "test.jsonl": held_out_rows}.items():
        (folder / name).write_text("".join(part), encoding="utf-8")
    return folder / "train.jsonl", folder / "test.jsonl"


def lines_of(path: Path) -> Iterator[str]:
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rt", encoding="utf-8") as file:
        yield from file


def parsed(settings: list[str]) -> dict[str, object]:
    """key=value, with numbers, lists and mappings as such."""
    chosen = dict(setting.split("=", 1) for setting in settings)
    return {key: json.loads(value) if value[:1] in "0123456789-{[" else value for key, value in chosen.items()}


def evaluations(done: RunResult) -> Iterator[dict[str, float]]:
    """Lines of metrics.jsonl of one run's evaluations."""
    for line in (done.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line_metrics = json.loads(line)
        if "eval/loss" in line_metrics:
            yield line_metrics


def cell(line: dict[str, float], name: str) -> str:
    """Cell of the table: a share with its interval."""
    value, low, high = (line.get(f"eval/{name}{end}") for end in ("", "_low", "_high"))
    return "–" if value is None else f"{value:.1%} ({low:.1%}–{high:.1%})"


if __name__ == "__main__":
    main()
