"""What means the same gives the same bits: wrappers, forms of files, ways to write a setting."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

from .trial import Trial, case

ROWS = [{"question": f"{n}+1?", "answer": f"{n + 1}"} for n in range(12)]
SETTINGS = {"max_steps": 2, "sequences_per_step": 4, "learning_rate": 1e-3}
WORDS = [f"{key}={value}" for key, value in SETTINGS.items() if key != "max_steps"]


def weights(folder: Path) -> bytes:
    [path] = (folder / "model").glob("*.safetensors")
    return path.read_bytes()


def trained(trial: Trial, data: str, name: str, *words: str) -> bytes:
    """Weights after two steps of SFT by the command line."""
    given = ["--model", trial.model("chatml"), "--data", data, "--output", name, "--max-steps", "2"]
    trial.burnish("sft", *given, *WORDS, *words).succeeded()
    return weights(trial.folder / name)


@case("silent-same-bits-of-wrappers")
def wrappers_give_the_same_bits(trial: Trial) -> None:
    """The command of a stage, a recipe, its resolved recipe, and Python."""
    data = trial.write("rows.jsonl", *ROWS)
    expected = trained(trial, data, "cli")
    sft, run = trial.named("sft", "burnish"), trial.named("run", "burnish")
    model = trial.model("chatml")
    assert weights(sft(model=model, data=data, output=str(trial.folder / "python"), **SETTINGS).folder) == expected
    settings = "".join(f"      {key}: {value}\n" for key, value in SETTINGS.items())
    text = f"model: {model}\nstages:\n  - sft:\n      data: {data}\n{settings}"
    recipe = trial.write("mine.yaml", text)
    assert weights(run(recipe, f"output={trial.folder / 'recipe'}").folder) == expected
    resolved = trial.folder / "recipe" / "recipe.yaml"
    assert weights(run(resolved, f"output={trial.folder / 'resolved'}").folder) == expected


@case("silent-same-bits-of-files")
def files_give_the_same_bits(trial: Trial) -> None:
    """JSON lines, a JSON list, CSV, Parquet, compressed lines, a folder and a pattern."""
    expected = trained(trial, trial.write("rows.jsonl", *ROWS), "jsonl")
    from datasets import Dataset

    (trial.folder / "rows.json").write_text(json.dumps(ROWS))
    with (trial.folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows(ROWS)
    Dataset.from_list(ROWS).to_parquet(trial.folder / "rows.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (trial.folder / "packed.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    trial.write("folder/part-1.jsonl", *ROWS[:5])
    trial.write("folder/part-2.jsonl", *ROWS[5:])
    for name in ("rows.json", "rows.csv", "rows.parquet", "packed.jsonl.gz", "folder", "folder/*.jsonl"):
        assert trained(trial, name, f"run-{name.replace('/', '-').replace('*', 'all')}") == expected, name


@case("silent-same-bits-of-settings")
def settings_give_the_same_bits(trial: Trial) -> None:
    """A default that is written out, a short form, epochs instead of steps, and knobs that change no result."""
    data = trial.write("rows.jsonl", *ROWS)
    expected = trained(trial, data, "plain", "schedule=constant", "optimizer=adamw")
    same: dict[str, list[str]] = {
        "spelled out": ["schedule.kind=constant", "optimizer.kind=adamw", "optimizer.betas=[0.9, 0.999]", "seed=0"],
        "memory": ["schedule=constant", "gradient_checkpointing=true"],
        "lines": ["schedule=constant", "log_every=1", "checkpoint_every=1", "trackers=[]"],
        "evaluated": ["schedule=constant", f"eval_data={data}", "eval_every=1"],
    }
    for name, words in same.items():
        assert trained(trial, data, name.replace(" ", "-"), *words) == expected, name
