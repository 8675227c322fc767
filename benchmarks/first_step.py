"""Time from the command to the end of the first optimizer step on 100 000 chat rows, compared with TRL's SFTTrainer.

``python benchmarks/first_step.py [rows] [repeats]``. Every start is a process of its own with an empty cache, in turn,
and the medians are printed:

- imports: those of a run of burnish, and those of a script with SFTTrainer; lower bounds of the times below;
- burnish: `burnish sft`, until its line about the first step; once more, with the rows in the cache;
- TRL with its defaults and with assistant_only_loss (which trains the same tokens), tokenized by two processes:
  `load_dataset`, an SFTTrainer, `train()` until the callback of the first step.

All train the same model of 0.3 M parameters with 32 rows a step: the time is that of everything before the step.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_speed import make_tokenizer, write_rows
from transformers import LlamaConfig, LlamaForCausalLM

OURS = "import torch, transformers, peft, datasets, burnish.stages.run"
THEIRS = "import torch, datasets; from trl import SFTConfig, SFTTrainer"
TRL = """
import sys, datasets
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

class First(TrainerCallback):
    def on_step_end(self, *_, **__):
        print("step 1 done", flush=True)

model, data, cache, out, masked = sys.argv[1:]
rows = datasets.load_dataset("json", data_files=data, split="train", cache_dir=cache)
arguments = SFTConfig(output_dir=out, max_length=4096, max_steps=1, per_device_train_batch_size=32, report_to=[],
                      use_cpu=True, bf16=False, dataset_num_proc=2, save_strategy="no",
                      assistant_only_loss=masked == "masked", disable_tqdm=True)
SFTTrainer(model, arguments, train_dataset=rows, callbacks=[First()]).train()
"""


def save_small_model(folder: Path, data: Path) -> None:
    """Saves a model whose step takes almost no time, with a tokenizer trained on the data."""
    make_tokenizer(data).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=16_384,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def seconds(command: list[str], until: str, environment: dict[str, str]) -> float:
    """Seconds from the start of a process until it prints a line with this text; "": until it ends."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if until and until in line:
            passed = time.perf_counter() - start
            process.kill()
            process.wait()
            return passed
    failed = process.wait() != 0
    assert not failed, f"{command[:4]} failed:\n{''.join(lines[-20:])}"
    assert not until, f"{command[:4]} never printed {until!r}"
    return time.perf_counter() - start


def main(count: int, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data, model = folder / "rows.jsonl", folder / "model"
        write_rows(data, count)
        save_small_model(model, data)

        def ours(run: int, cache: str) -> float:
            command = [sys.executable, "-m", "burnish", "sft", "--model", str(model), "--data", str(data)]
            command += ["--output", str(folder / f"run-{run}-{cache}"), "--max-steps", "1000", "log_every=1"]
            return seconds(command, "step 1/1000", {"BURNISH_CACHE": str(folder / cache)})

        def theirs(run: int, kind: str) -> float:
            cache = folder / f"datasets-{run}-{kind}"
            command = [sys.executable, "-c", TRL, str(model), str(data), str(cache), str(folder / "out"), kind]
            return seconds(command, "step 1 done", {})

        def make_ready() -> None:
            command = [sys.executable, "-m", "burnish", "data", "profile", str(data), "--model", str(model)]
            seconds(command, "", {"BURNISH_CACHE": str(folder / "ready")})

        make_ready()
        starts = {
            "imports of burnish": lambda run: seconds([sys.executable, "-c", OURS], "", {}),
            "burnish, empty cache": lambda run: ours(run, f"empty-{run}"),
            "burnish, rows in the cache": lambda run: ours(run, "ready"),
            "imports of TRL": lambda run: seconds([sys.executable, "-c", THEIRS], "", {}),
            "TRL, defaults": lambda run: theirs(run, "defaults"),
            "TRL, assistant_only_loss": lambda run: theirs(run, "masked"),
        }
        times = {name: [] for name in starts}
        for run in range(repeats):
            for name, start in starts.items():
                times[name].append(start(run))
                print(f"{name:30} {times[name][-1]:8.1f} s", flush=True)
        for name, values in times.items():
            print(f"median  {name:30} {statistics.median(values):8.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, int(sys.argv[2]) if len(sys.argv) > 2 else 3)
