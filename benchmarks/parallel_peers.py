"""Two processes beside accelerate and TRL: seconds of a step of supervised training, of one process and of two.

    python benchmarks/parallel_peers.py
    python benchmarks/parallel_peers.py --size 1M --rounds 1

Both train the model and the rows of benchmarks/parallel.py, in float32 with AdamW, one thread for each process, over
gloo. `accelerate launch` refuses `--use_fsdp` beside `--cpu`, and starts one process with `--cpu --num_processes 2`. So
torchrun starts TRL's SFTTrainer, with FSDP2 asked for by accelerate's variables of the environment; the table tells
which kind of distribution accelerate then chose. Contenders run in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from parallel import LAYOUTS, STEPS, measured, rows_of
from sft_step import SIZES, make_policy

LEARNING_RATE = 1e-5
OURS = ("1", "data=2", "shard=2")
THEIRS = (1, 2)


def tokenizer_of(vocabulary: int) -> Any:
    """A tokenizer of whole words: TRL needs one, although rows are tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({f"t{number}": number for number in range(vocabulary)}, unk_token="t0")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), eos_token="t1", pad_token="t0")


def train(output: Path, size: str, rows: int, batch: int) -> None:
    """Trains with TRL in one of the processes that torchrun started; the main one writes its figures."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    seconds: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

        def on_log(self, _arguments: Any, _state: Any, _control: Any, logs: dict[str, Any], **__: Any) -> None:
            losses.extend([float(logs["loss"])] if "loss" in logs else [])

    vocabulary = SIZES[size]["vocab_size"]
    groups = rows_of(rows, vocabulary)
    step = [
        {
            "input_ids": torch.cat([group.prompt, group.responses[0].tokens]).tolist(),
            "completion_mask": [0] * len(group.prompt) + [1] * len(group.responses[0].tokens),
        }
        for group in groups
    ]
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings = SFTConfig(
        output_dir=str(output),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=rows // batch // processes,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        bf16=False,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
    )
    model = make_policy(size).causal_lm
    model.set_attn_implementation("sdpa")
    trainer = SFTTrainer(
        model,
        settings,
        train_dataset=Dataset.from_list(step * (1 + STEPS)),
        processing_class=tokenizer_of(vocabulary),
        callbacks=[Clock()],
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        figures = {"seconds": statistics.median(seconds[1:]), "first_loss": losses[0]}
        found = {**figures, "chosen": str(trainer.accelerator.distributed_type.value)}
        (output / "figures.json").write_text(json.dumps(found), encoding="utf-8")


def theirs(processes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of TRL's trainer, started by torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        launch = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
        own = [__file__, f"--size={options.size}", f"--rows={options.rows}", f"--batch={options.batch}"]
        asked = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} if processes > 1 else {}
        variables = {**os.environ, **asked, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launch, *own, f"--child={folder}"]
        subprocess.run(command, check=True, stdout=sys.stderr, env=variables)
        found: dict[str, Any] = json.loads((Path(folder) / "figures.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="15M")
    parser.add_argument("--rows", type=int, default=32, help="rows of a step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4, help="rows of a microbatch of TRL")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(options.child, options.size, options.rows, options.batch)
        return
    figures: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for name in OURS:
            figures.setdefault(f"Burnish, {name}", []).append(measured(LAYOUTS[name], options.size, options.rows)[0])
        for processes in THEIRS:
            figures.setdefault(f"TRL, {processes}", []).append(theirs(processes, options))
    print("| contender | accelerate chose | s a step | first loss |")
    print("|---|---|---|---|")
    for name, rounds in figures.items():
        seconds = statistics.median(of["seconds"] for of in rounds)
        print(f"| {name} | {rounds[0].get('chosen', '')} | {seconds:.2f} | {rounds[0]['first_loss']:.6f} |")


if __name__ == "__main__":
    main()
