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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from parallel import LAYOUTS, STEPS, measured, parser_of, rows_of
from peers.cases import ENVIRONMENT, FLOAT32, PADDING_FREE, Case, Contender
from sft_step import SIZES, make_policy

OURS = ("1", "data=2", "shard=2")
THEIRS = (
    *(Contender(f"TRL, padding-free, {n}", "trl", n, PADDING_FREE) for n in (1, 2)),
    Contender("TRL, padded, 4", "trl", 4, FLOAT32),
)
"""The number is that of a microbatch's rows."""
ASKED = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


def write_material(folder: Path, size: str, rows: int) -> None:
    """The model with its tokenizer, and the rows of all steps, for TRL."""
    from sft_scaling import small_tokenizer

    small_tokenizer().save_pretrained(folder / "model")
    make_policy(size).causal_lm.save_pretrained(folder / "model")
    lines = []
    for group in rows_of(rows, SIZES[size]["vocab_size"]):
        prompt, answer = group.prompt.tolist(), group.responses[0].tokens.tolist()
        lines.append(json.dumps({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}) + "\n")
    (folder / "rows.tokens").write_text("".join(lines * (1 + STEPS)), encoding="utf-8")


def train(folder: Path, size: str, rows: int, contender: Contender) -> None:
    """Trains with TRL in one of the processes that torchrun started; the first one writes its figures."""
    from accelerate.state import AcceleratorState
    from peers.theirs import train

    case = Case(size, "random", per_step=rows // int(os.environ.get("WORLD_SIZE", "1")))
    own = folder / os.environ.get("RANK", "0")
    found = train(case, contender, folder / "model", folder / "rows.jsonl", own)
    figures = {"seconds": statistics.median(found["walls"][1:]), "first_loss": found["losses"][0]}
    figures["chosen"] = AcceleratorState().distributed_type.value
    (own / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


def theirs(contender: Contender, processes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of TRL's trainer, started by torchrun."""
    with tempfile.TemporaryDirectory() as folder:
        write_material(Path(folder), options.size, options.rows)
        launch = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes > 1 else []
        own = [__file__, f"--size={options.size}", f"--rows={options.rows}", f"--child={folder}"]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(ASKED if processes > 1 else {})}
        command = [sys.executable, *launch, *own, f"--contender={json.dumps(contender.as_json())}"]
        subprocess.run(command, check=True, stdout=sys.stderr, env=variables)
        found: dict[str, Any] = json.loads((Path(folder) / "0" / "figures.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--contender", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train(options.child, options.size, options.rows, Contender.of(options.contender))
        return
    os.environ.update(ENVIRONMENT)
    figures: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for name in OURS:
            figures.setdefault(f"Burnish, {name}", []).append(measured(LAYOUTS[name], options.size, options.rows)[0])
        for contender in THEIRS:
            for processes in (1, 2):
                name = f"{contender.name}; processes: {processes}"
                figures.setdefault(name, []).append(theirs(contender, processes, options))
    print("| contender | accelerate chose | s a step | first loss |")
    print("|---|---|---|---|")
    for name, rounds in figures.items():
        seconds = statistics.median(of["seconds"] for of in rounds)
        print(f"| {name} | {rounds[0].get('chosen', '')} | {seconds:.2f} | {rounds[0]['first_loss']:.6f} |")


if __name__ == "__main__":
    main()
